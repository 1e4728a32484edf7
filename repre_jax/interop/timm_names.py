"""One tensor's name and layout, ours <-> timm's."""

import re
from collections.abc import Iterable, Mapping

import numpy as np


def are_ours(names: Iterable[str]) -> bool:
    """Whether these are paths of our parameters, such as 'block_1/attn/qkv/kernel'."""
    return any("/" in name for name in names)


def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters by their paths -> timm's names and layouts."""
    return {timm_name(path): to_timm(path, array) for path, array in arrays.items()}


def timm_name(path: str) -> str:
    """'stage_2_block_1/attn/qkv/kernel' -> 'layers.1.blocks.0.attn.qkv.weight'."""
    name = re.sub(r"stage_(\d+)_merge", lambda m: f"layers.{m[1]}.downsample", path)  # at the start of the next stage
    name = re.sub(r"stage_(\d+)_", lambda m: f"layers.{int(m[1]) - 1}.", name)
    name = re.sub(r"block_(\d+)", lambda m: f"blocks.{int(m[1]) - 1}", name)
    name = name.replace("patch_embed/", "patch_embed/proj/").replace("patch_norm/", "patch_embed/norm/")
    name = name.replace("bias_table", "relative_position_bias_table")
    return re.sub(r"/(kernel|scale)$", "/weight", name).replace("/", ".")


def timm_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return to_timm(path, np.broadcast_to(np.float32(0), shape)).shape


def to_timm(path: str, array: np.ndarray) -> np.ndarray:
    """Kernels: [in, out] -> [out, in], [h, w, in, out] -> [out, in, h, w]; everything else stays."""
    if not path.endswith("/kernel") or array.ndim not in (2, 4):
        return array
    return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)


def to_ours(path: str, array: np.ndarray) -> np.ndarray:
    """The inverse of to_timm."""
    if not path.endswith("/kernel"):
        return array
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)


def merging_first(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Swin's authors merge patches at the end of a stage, timm at the start of the next one: timm's name."""
    if "layers.0.downsample.reduction.weight" not in arrays:
        return name
    return re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)
