"""Our parameters <-> timm's state dicts, which DeiT, Swin, MoCo v3, DINO and MoBY share but for prefixes.

Only arrays and names pass here; repre_jax/interop/files.py has the files.

  arrays = files.read("vit_small_patch16_224.safetensors")
  params = timm.load(arrays, build_encoder("vit_s"))
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from repre_jax.core.errors import UserError
from repre_jax.interop import state_dicts
from repre_jax.models import positions
from repre_jax.models.encoders import Encoder, describe
from repre_jax.models.vit import ViT

FIXED_TOLERANCE = 1e-5  # MoCo v3 computes its table in float32


def load(
    state_dict: Mapping[str, np.ndarray], encoder: Encoder, *, branch: str | None = None, resize: bool = False
) -> dict[str, Any]:
    """The encoder's parameters, float32, from timm's names and layouts.

    state_dict: NumPy arrays by name, of timm's vit_*, deit_* and swin_* models or of MoCo v3's, DINO's and MoBY's
        published files, prefixes and all.
    branch: 'online' (DINO: student) or 'target' (momentum encoder, teacher); for files that hold both, and only there.
    resize: let learned positions and window biases of another size be resized, bicubic as in ViT.

    Every tensor is accounted for: it prints how many were loaded and what was left out. Fixed positions (flavour
    'moco_v3') are compared with the formula. The number of heads of a ViT stands in no file: the encoder's is printed.

    Raises UserError that names missing, unknown and misshapen tensors, or for a branch that is missing or not there.
    """
    arrays, left_out = state_dicts.encoder_tensors(state_dict, branch)
    arrays = {_merging_first(name, arrays): array for name, array in arrays.items()}
    has_fixed = isinstance(encoder, ViT) and "pos_embed" in arrays and _is_fixed(arrays["pos_embed"], encoder)
    if isinstance(encoder, ViT) and encoder.flavour == "moco_v3" and "pos_embed" in arrays:
        if not has_fixed:
            raise UserError(
                f"pos_embed {arrays['pos_embed'].shape} in the file is not MoCo v3's fixed table for {encoder.width} "
                "channels.\n  change:   build the encoder with flavour='deit' or 'dino', whose positions are learned"
            )
        del arrays["pos_embed"]
        left_out["fixed positions, equal to the formula"] = ["pos_embed"]

    wanted = _wanted(encoder)
    missing = [f"{name} {shape}" for name, (_, shape) in wanted.items() if name not in arrays]
    unknown = [f"{name} {array.shape}" for name, array in arrays.items() if name not in wanted]
    flat, resized, misshapen = {}, [], []
    for name, (path, shape) in wanted.items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.shape != shape and resize:
            array = _resized(name, array, encoder, shape)
            resized.append(name)
        if array.shape != shape:
            hint = " (resize=True interpolates it)" if _resizable(name) and not resize else ""
            misshapen.append(f"{name} {array.shape}, the encoder has {shape}{hint}")
        elif not np.issubdtype(array.dtype, np.floating):
            misshapen.append(f"{name} has dtype {array.dtype}, not floating point")
        else:
            flat[path] = _to_ours(path, array.astype(np.float32))
    _refuse(f"These weights do not fit the encoder ({describe(encoder)}).", missing, unknown, misshapen)
    _report(encoder, branch, len(flat), len(state_dict), left_out, resized)
    if has_fixed and encoder.flavour != "moco_v3":
        print(
            "  note:     these positions are MoCo v3's, whose ViT-S has 12 heads; flavour='moco_v3' builds that encoder"
        )
    return traverse_util.unflatten_dict(flat, sep="/")


def dump(params: Mapping[str, Any], encoder: Encoder) -> dict[str, np.ndarray]:
    """The inverse of load: NumPy arrays under timm's names, equal to the bit, of an encoder's parameters.

    Fixed positions (flavour 'moco_v3') are added as 'pos_embed', since timm's model has that tensor.
    Raises UserError when the parameters are not those of the encoder.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    wanted = _wanted(encoder)
    arrays = {name: _to_timm(path, np.asarray(flat[path])) for name, (path, _) in wanted.items() if path in flat}
    missing = [path for path, _ in wanted.values() if path not in flat]
    unknown = sorted(flat.keys() - {path for path, _ in wanted.values()})
    misshapen = [wanted[name][0] for name, array in arrays.items() if array.shape != wanted[name][1]]
    _refuse(f"These parameters are not those of the encoder ({describe(encoder)}).", missing, unknown, misshapen)
    if isinstance(encoder, ViT) and encoder.flavour == "moco_v3":
        arrays["pos_embed"] = _fixed_positions(*(side // encoder.patch for side in encoder.image_size), encoder.width)
    return arrays


def _refuse(title: str, missing: list[str], unknown: list[str], misshapen: list[str], shown: int = 8) -> None:
    """Raises UserError with the faults by kind, if there are any."""
    lines = [title]
    for kind, faults in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen)):
        lines += [f"  {kind + ':':<10} {fault}" for fault in sorted(faults)[:shown]]
        lines += [f"  {kind + ':':<10} and {len(faults) - shown} more"] if len(faults) > shown else []
    if len(lines) > 1:
        raise UserError("\n".join(lines))


def _wanted(encoder: Encoder) -> dict[str, tuple[str, tuple[int, ...]]]:
    """timm's name -> (our path, timm's shape) of each of the encoder's tensors."""
    images = jax.ShapeDtypeStruct((1, encoder.patch, encoder.patch, encoder.channels), np.float32)
    params = jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
    flat = traverse_util.flatten_dict(params, sep="/")
    return {_timm_name(path): (path, _timm_shape(path, leaf.shape)) for path, leaf in flat.items()}


def _timm_name(path: str) -> str:
    """'stage_2_block_1/attn/qkv/kernel' -> 'layers.1.blocks.0.attn.qkv.weight'."""
    name = re.sub(r"stage_(\d+)_merge", lambda m: f"layers.{m[1]}.downsample", path)  # at the start of the next stage
    name = re.sub(r"stage_(\d+)_", lambda m: f"layers.{int(m[1]) - 1}.", name)
    name = re.sub(r"block_(\d+)", lambda m: f"blocks.{int(m[1]) - 1}", name)
    name = name.replace("patch_embed/", "patch_embed/proj/").replace("patch_norm/", "patch_embed/norm/")
    name = name.replace("bias_table", "relative_position_bias_table")
    return re.sub(r"/(kernel|scale)$", "/weight", name).replace("/", ".")


def _timm_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return _to_timm(path, np.broadcast_to(np.float32(0), shape)).shape


def _to_timm(path: str, array: np.ndarray) -> np.ndarray:
    """Kernels: [in, out] -> [out, in], [h, w, in, out] -> [out, in, h, w]; everything else stays."""
    if not path.endswith("/kernel"):
        return array
    return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)


def _to_ours(path: str, array: np.ndarray) -> np.ndarray:
    """The inverse of _to_timm."""
    if not path.endswith("/kernel"):
        return array
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)


def _merging_first(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Swin's authors merge patches at the end of a stage, timm at the start of the next one: timm's name."""
    if "layers.0.downsample.reduction.weight" not in arrays:
        return name
    return re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)


def _resizable(name: str) -> bool:
    return name == "pos_embed" or name.endswith("relative_position_bias_table")


def _resized(name: str, array: np.ndarray, encoder: Encoder, shape: tuple[int, ...]) -> np.ndarray:
    """Positions and bias tables of a square grid, brought to the encoder's; anything else stays as it is."""
    first = 1 if name == "pos_embed" else 0  # the class token's position comes first and is kept
    table = array.reshape(-1, array.shape[-1])
    side = round((len(table) - first) ** 0.5)
    if not _resizable(name) or array.shape[-1] != shape[-1] or side * side != len(table) - first:
        return array
    if isinstance(encoder, ViT):
        size = tuple(pixels // encoder.patch for pixels in encoder.image_size)
    else:
        size = (2 * encoder.window - 1,) * 2
    grid = np.asarray(positions.resize(table[first:].reshape(side, side, -1).astype(np.float32), size))
    return np.concatenate([table[:first], grid.reshape(-1, table.shape[-1])]).reshape(shape)


def _fixed_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """MoCo v3's table as its files hold it: [1, 1 + rows * columns, D], zeros for the class token."""
    return np.pad(positions.sincos(rows, columns, width), ((1, 0), (0, 0)))[None]


def _is_fixed(table: np.ndarray, encoder: ViT) -> bool:
    """Whether a file's positions are MoCo v3's formula, for a square grid or for the encoder's own."""
    grids = [tuple(side // encoder.patch for side in encoder.image_size), (round((table.shape[1] - 1) ** 0.5),) * 2]
    tables = [_fixed_positions(*grid, encoder.width) for grid in grids]
    return any(t.shape == table.shape and np.allclose(t, table, atol=FIXED_TOLERANCE) for t in tables)


def _report(
    encoder: Encoder,
    branch: str | None,
    count: int,
    held: int,
    left_out: dict[str, list[str]],
    resized: list[str],
) -> None:
    """count: tensors loaded, all that the encoder has; held: tensors in the file."""
    print(f"Loaded {count} of {count} tensors of the encoder, from {held} in the file.")
    print(f"  encoder:  {describe(encoder)}")
    if branch is not None:
        print(f"  branch:   {branch}")
    if isinstance(encoder, ViT):
        print(f"  heads:    {encoder.heads} as it was built; the file cannot tell, 6 and 12 have equal shapes")
    if resized:
        print(f"  resized:  {len(resized)}: {_few(resized)}")
    for kind, names in left_out.items():
        print(f"  left out: {len(names)} of {kind}: {_few(names)}")


def _few(names: list[str]) -> str:
    return ", ".join(sorted(names)[:2]) + (", ..." if len(names) > 2 else "")
