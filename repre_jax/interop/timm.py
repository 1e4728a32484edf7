"""Our parameters <-> timm's state dicts, which DeiT, Swin, MoCo, DINO, MoBY and SimSiam share but for prefixes.

Only arrays and names pass here; repre_jax/interop/files.py has the files.

  arrays = files.read("vit_small_patch16_224.safetensors")
  params = timm.load(arrays, build_encoder("vit_s"))
"""

import math
import posixpath
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from repre_jax.core.errors import UserError
from repre_jax.interop import state_dicts, timm_models, timm_names
from repre_jax.models import positions
from repre_jax.models.encoders import Encoder, describe
from repre_jax.models.vit import RESIZE_GUARD, ViT
from repre_jax.system import terminal

# Largest difference of a file's fixed positions from ours, by its dtype: MoCo v3 computes its table in float32, and a
# file of lower precision has rounded it.
FIXED_TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}


def load(
    state_dict: Mapping[str, np.ndarray],
    encoder: Encoder,
    *,
    network: str | None = None,
    resize: bool = False,
    image_size: tuple[int, int] | None = None,
    sure: bool = False,
) -> dict[str, Any]:
    """The encoder's parameters, float32, from timm's names and layouts.

    state_dict: NumPy arrays by name, of timm's vit_*, deit_* and swin_* models or of MoCo v3's, DINO's, MoBY's,
        MoCo v2's and SimSiam's files, prefixes and all.
    network: 'online' (DINO: student) or 'target' (momentum encoder, teacher); for a framework's files, and only there.
    resize: let learned positions and window biases of another square grid be resized, bicubic, as the encoder resizes
        its own positions.
    image_size: of the images that timm's Swin was built for. Where their map is smaller than the window, timm's bias
        table is that of the map: it becomes the middle of ours, with zeros around it.
    A class token, and its position, that the encoder is without is left out.
    sure: the encoder is known to be the file's: nothing is said of what the file cannot tell.

    Every tensor is accounted for: it prints how many were loaded and what was left out. Fixed positions (variant
    'moco_v3') are compared with the formula. The number of heads of a ViT stands in no file: the encoder's is printed.

    Raises UserError that names missing, unknown and misshapen tensors, or for a network that is missing or not there.
    """
    arrays, left_out = state_dicts.encoder_tensors(state_dict, network)
    arrays = {timm_names.merging_first(name, arrays): array for name, array in arrays.items()}
    note = None
    if isinstance(encoder, ViT):
        if not encoder.class_token and "cls_token" in arrays:
            left_out["class token, which the encoder is without"] = _take_class_token(arrays)
        note = _positions_note(arrays, encoder)
        if encoder.fixed_positions and arrays.pop("pos_embed", None) is not None:
            left_out["fixed positions, equal to the formula"] = ["pos_embed"]

    wanted = _wanted(encoder)
    tables = _small_tables(wanted, encoder, image_size)
    missing = [f"{name} {shape}" for name, (_, shape) in wanted.items() if name not in arrays]
    unknown = [f"{name} {array.shape}" for name, array in arrays.items() if name not in wanted]
    flat, resized, filled, misshapen = {}, [], [], []
    for name, (path, shape) in wanted.items():
        array = arrays.get(name)
        if array is None:
            continue
        if not jnp.issubdtype(array.dtype, jnp.floating):
            misshapen.append(f"{name} has dtype {array.dtype}, not floating point")
        elif array.shape == shape:
            flat[path] = timm_names.to_ours(path, array.astype(np.float32))
        elif name in tables and array.shape == ((2 * tables[name] - 1) ** 2, shape[1]):
            flat[path] = timm_models.fill_table(array.astype(np.float32), encoder.window)
            filled.append(name)
        elif resize and _resizable(name, array, shape, encoder):
            flat[path] = _resized(name, array.astype(np.float32), encoder).reshape(shape)
            resized.append(name)
        else:
            hint = " (resize=True interpolates it)" if _resizable(name, array, shape, encoder) else ""
            misshapen.append(f"{name} {array.shape}, the encoder has {shape}{hint}")
    title = f"These weights do not fit the encoder ({describe(encoder)})."
    prefix = posixpath.commonpath([name.replace(".", "/") for name in arrays] or [""]).replace("/", ".")
    if prefix and not wanted.keys() & arrays.keys():
        title += f"\n  change:    take {prefix + '.'!r} off all names, if that is what the encoder is called there"
    _refuse(title, missing, unknown, misshapen)
    _report(encoder, network, len(flat), len(state_dict), left_out, resized, filled, None if sure else note, sure)
    return traverse_util.unflatten_dict(flat, sep="/")


def dump(
    params: Mapping[str, Any], encoder: Encoder, *, image_size: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """The inverse of load: NumPy arrays under timm's names, equal to the bit, of an encoder's parameters.

    image_size: of the images that timm's Swin is to be built for; see load. None: its tables stay whole.

    Fixed positions (variant 'moco_v3' or 'sincos') are added as 'pos_embed', since timm's model has that tensor:
    computed, so equal to a file's but for the last bits.
    Raises UserError when the parameters are not those of the encoder.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    wanted = _wanted(encoder)
    arrays = {
        name: timm_names.to_timm(path, np.asarray(flat[path])) for name, (path, _) in wanted.items() if path in flat
    }
    missing = [path for path, _ in wanted.values() if path not in flat]
    unknown = sorted(flat.keys() - {path for path, _ in wanted.values()})
    misshapen = [wanted[name][0] for name, array in arrays.items() if array.shape != wanted[name][1]]
    _refuse(f"These parameters are not those of the encoder ({describe(encoder)}).", missing, unknown, misshapen)
    for name, window in _small_tables(wanted, encoder, image_size).items():
        arrays[name] = timm_models.cut_table(arrays[name], window)
    if isinstance(encoder, ViT) and encoder.fixed_positions:
        arrays["pos_embed"] = _fixed_positions(encoder, encoder.grid)
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
    return {timm_names.timm_name(path): (path, timm_names.timm_shape(path, leaf.shape)) for path, leaf in flat.items()}


def _small_tables(wanted: Mapping[str, Any], encoder: Encoder, image_size: tuple[int, int] | None) -> dict[str, int]:
    """timm's names of the bias tables of stages whose map is smaller than the window, and the side of that map."""
    if isinstance(encoder, ViT) or image_size is None:
        return {}
    sides = timm_models.windows(encoder, image_size)
    tables = {name: sides[int(name.split(".")[1])] for name in wanted if name.endswith("bias_table")}
    return {name: side for name, side in tables.items() if side < encoder.window}


def _take_class_token(arrays: dict[str, np.ndarray]) -> list[str]:
    """Takes it and its position out of the arrays; what was left out."""
    del arrays["cls_token"]
    table = arrays.get("pos_embed")
    if table is None or table.ndim != 3:
        return ["cls_token"]
    arrays["pos_embed"] = table[:, 1:]
    return ["cls_token", "pos_embed's first row"]


def _resizable(name: str, array: np.ndarray, shape: tuple[int, ...], encoder: Encoder) -> bool:
    """Whether a position or bias table of a square grid differs from the encoder's in its grid alone."""
    if array.ndim != len(shape) or array.shape[-1] != shape[-1]:
        return False
    if name == "pos_embed":
        patches = array.shape[1] - _before_patches(encoder)
        return array.shape[0] == 1 and patches > 0 and math.isqrt(patches) ** 2 == patches
    return name.endswith("relative_position_bias_table") and math.isqrt(len(array)) ** 2 == len(array) > 0


def _resized(name: str, array: np.ndarray, encoder: Encoder) -> np.ndarray:
    """The table on the encoder's grid, as the encoder itself would resize its own: [tokens, D]."""
    first = _before_patches(encoder) if name == "pos_embed" else 0  # the class token's position comes first and is kept
    table = array.reshape(-1, array.shape[-1])
    side = math.isqrt(len(table) - first)
    if isinstance(encoder, ViT):
        size, guard = encoder.grid, RESIZE_GUARD[encoder.variant]
    else:
        size, guard = (2 * encoder.window - 1,) * 2, 0.0
    grid = np.asarray(positions.resize(jnp.asarray(table[first:].reshape(side, side, -1)), size, guard))
    return np.concatenate([table[:first], grid.reshape(-1, table.shape[-1])])


def _before_patches(encoder: Encoder) -> int:
    """Rows of pos_embed before the patches': the class token's, where there is one."""
    return int(isinstance(encoder, ViT) and encoder.class_token)


def _fixed_positions(encoder: ViT, grid: tuple[int, int]) -> np.ndarray:
    """MoCo v3's table as its files hold it: [1, 1 + rows * columns, D], zeros for the class token if there is one."""
    return np.pad(positions.sincos(*grid, encoder.width), ((_before_patches(encoder), 0), (0, 0)))[None]


def _positions_note(arrays: Mapping[str, np.ndarray], encoder: ViT) -> str | None:
    """What the file's positions say about it: MoCo v3's are a formula, on a square grid or on the encoder's own.

    Raises UserError when the encoder has fixed positions and the file's are others.
    """
    table = arrays.get("pos_embed")
    fixed = False
    if table is not None and table.ndim == 3 and table.shape[1] > 0:
        grids = {encoder.grid, (math.isqrt(max(table.shape[1] - _before_patches(encoder), 0)),) * 2}
        tables = [_fixed_positions(encoder, grid) for grid in grids]
        atol = FIXED_TOLERANCE.get(table.dtype.name, 0.0)
        fixed = any(t.shape == table.shape and np.allclose(t, table.astype(np.float32), atol=atol) for t in tables)
    if not encoder.fixed_positions:
        return "these positions are MoCo v3's, whose ViT-S has 12 heads: variant='moco_v3'" if fixed else None
    if table is None:
        return "the file has no positions; the encoder computes MoCo v3's. Was it trained with them?"
    if not fixed:
        raise UserError(
            f"pos_embed {table.shape} in the file is not MoCo v3's fixed table for {encoder.width} channels.\n"
            "  change:   build the encoder with variant='deit' or 'dino', whose positions are learned"
        )
    return None


def _report(
    encoder: Encoder,
    network: str | None,
    count: int,
    held: int,
    left_out: dict[str, list[str]],
    resized: list[str],
    filled: list[str],
    note: str | None,
    sure: bool,
) -> None:
    """count: tensors loaded, all that the encoder has; held: tensors in the file."""
    terminal.say(f"Loaded {count} tensors, all that the encoder has, from {held} in the file.")
    terminal.say(f"  encoder:  {describe(encoder)}")
    if network is not None:
        terminal.say(f"  network:   {network}")
    if isinstance(encoder, ViT) and not sure:
        terminal.say(f"  heads:    {encoder.heads} as it was built; the file cannot tell, 6 and 12 have equal shapes")
    if resized:
        terminal.say(f"  resized:  {len(resized)}: {_few(resized)}")
    if filled:
        terminal.say(f"  filled:   {len(filled)} tables of maps smaller than the window, zeros around: {_few(filled)}")
    for kind, names in left_out.items():
        terminal.say(f"  left out: {len(names)} of {kind}: {_few(names)}")
    if note is not None:
        terminal.say(f"  note:     {note}")


def _few(names: list[str]) -> str:
    return ", ".join(sorted(names)[:2]) + (", ..." if len(names) > 2 else "")
