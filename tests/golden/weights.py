"""Small encoders' weights and images from a seed, under timm's names: what both sides of the comparison start from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ViTCase:
    """A small ViT; grid: of the positions, patches high and wide."""

    width: int = 24
    depth: int = 6
    heads: int = 3
    patch: int = 4
    channels: int = 3
    grid: tuple[int, int] = (4, 4)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.width
        shapes = {
            "cls_token": (1, 1, d),
            "pos_embed": (1, 1 + self.grid[0] * self.grid[1], d),
            "patch_embed.proj.weight": (d, self.channels, self.patch, self.patch),
            "patch_embed.proj.bias": (d,),
            "norm.weight": (d,),
            "norm.bias": (d,),
        }
        for block in range(self.depth):
            shapes |= {f"blocks.{block}.{name}": shape for name, shape in block_shapes(d).items()}
        return shapes


@dataclass(frozen=True)
class SwinCase:
    """A small Swin."""

    width: int = 12
    depth: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 4, 4)
    patch: int = 2
    window: int = 3
    channels: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.width
        shapes = {
            "patch_embed.proj.weight": (d, self.channels, self.patch, self.patch),
            "patch_embed.proj.bias": (d,),
            "patch_embed.norm.weight": (d,),
            "patch_embed.norm.bias": (d,),
            "norm.weight": (8 * d,),
            "norm.bias": (8 * d,),
        }
        for stage, (depth, heads) in enumerate(zip(self.depth, self.heads, strict=True)):
            d = self.width * 2**stage
            for block in range(depth):
                names = block_shapes(d) | {
                    "attn.relative_position_bias_table": ((2 * self.window - 1) ** 2, heads),
                }
                shapes |= {f"layers.{stage}.blocks.{block}.{name}": shape for name, shape in names.items()}
            if stage:
                shapes |= {
                    f"layers.{stage}.downsample.norm.weight": (2 * d,),
                    f"layers.{stage}.downsample.norm.bias": (2 * d,),
                    f"layers.{stage}.downsample.reduction.weight": (d, 2 * d),
                }
        return shapes


def block_shapes(d: int) -> dict[str, tuple[int, ...]]:
    """A transformer block's tensors at width d."""
    return {
        "norm1.weight": (d,),
        "norm1.bias": (d,),
        "attn.qkv.weight": (3 * d, d),
        "attn.qkv.bias": (3 * d,),
        "attn.proj.weight": (d, d),
        "attn.proj.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "mlp.fc1.weight": (4 * d, d),
        "mlp.fc1.bias": (4 * d,),
        "mlp.fc2.weight": (d, 4 * d),
        "mlp.fc2.bias": (d,),
    }


# name -> (case, height and width of each image: the size that the positions belong to, a rectangle, a larger one)
CASES = {
    "deit": (ViTCase(), ((16, 16), (12, 24), (24, 28))),
    "dino": (ViTCase(), ((16, 16), (12, 24), (24, 28))),
    "moco_v3": (ViTCase(heads=6), ((16, 16), (12, 24), (24, 28))),
    "swin": (SwinCase(), ((48, 48), (48, 66), (60, 60))),
}


def state_dict(name: str) -> dict[str, np.ndarray]:
    """float32 arrays under timm's names. RandomState's stream never changes between NumPy versions."""
    rng = np.random.RandomState(7)
    arrays = {}
    for key, shape in sorted(CASES[name][0].shapes().items()):
        values = rng.standard_normal(shape)
        if key.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            values = 1 + 0.2 * values
        elif len(shape) == 2 and "table" not in key:
            values = values * 2 / shape[1] ** 0.5
        else:
            values = values * 0.5
        if key == "cls_token" and name == "moco_v3":
            values = values * 2e-3  # as small as there at the start, so that the epsilon of the first norm is seen
        arrays[key] = values.astype(np.float32)
    return arrays


def images(name: str, size: tuple[int, int]) -> np.ndarray:
    """float32 [1, *size, channels]."""
    rng = np.random.RandomState(sum(size))
    return rng.standard_normal((1, *size, CASES[name][0].channels)).astype(np.float32)
