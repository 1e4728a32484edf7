"""Writes outputs.npz and the .pth files: what PyTorch and Hugging Face transformers make of the weights of weights.py.

  pip install torch==2.13.0 transformers==5.23.0 && python tests/golden/generate.py

Only this program needs PyTorch. It shares nothing with repre_jax: names are mapped to Hugging Face's here, MoCo v3's
positions are computed in plain loops, DINO's by torch.nn.functional.interpolate with DINO's factor.
"""

import argparse
import collections
import math
from pathlib import Path

import numpy as np
import torch
from transformers import SwinConfig, SwinModel, ViTConfig, ViTModel
from weights import CASES, images, state_dict

HERE = Path(__file__).resolve().parent

# timm's names inside a block -> Hugging Face's, the same in both models.
BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def moco_v3_positions(width: int, rows: int, columns: int) -> torch.Tensor:
    """[1, 1 + rows * columns, width]; moco-v3 vits.py:53-69."""
    table = torch.zeros(1, 1 + rows * columns, width)
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for k in range(quarter):
                f = 1 / 10000 ** (k / quarter)
                values = (math.sin(row * f), math.cos(row * f), math.sin(column * f), math.cos(column * f))
                for part, value in enumerate(values):
                    table[0, 1 + row * columns + column, part * quarter + k] = value
    return table


def dino_positions(table: torch.Tensor, grid: tuple[int, int], rows: int, columns: int) -> torch.Tensor:
    """dino vision_transformer.py:174-194."""
    if (rows, columns) == grid:
        return table
    patches = table[:, 1:].reshape(1, *grid, -1).permute(0, 3, 1, 2)
    factor = ((rows + 0.1) / grid[0], (columns + 0.1) / grid[1])
    patches = torch.nn.functional.interpolate(patches, scale_factor=factor, mode="bicubic")
    assert patches.shape[2:] == (rows, columns)
    return torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def split_qkv(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """One tensor for q, k and v -> three."""
    parts = {}
    for kind in ("weight", "bias"):
        for name, part in zip("qkv", weights[f"{prefix}.qkv.{kind}"].chunk(3), strict=True):
            parts[f"{name}_proj.{kind}"] = part
    return parts


def load(model: torch.nn.Module, wanted: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Every tensor must find its place, and every place its tensor."""
    model.load_state_dict(wanted, strict=True)
    return model.eval()


def vit(name: str, size: tuple[int, int]) -> ViTModel:
    case, _ = CASES[name]
    weights = {key: torch.from_numpy(value) for key, value in state_dict(name).items()}
    grid = (size[0] // case.patch, size[1] // case.patch)
    if name == "moco_v3":
        weights["pos_embed"] = moco_v3_positions(case.width, *grid)
    elif name == "dino":
        weights["pos_embed"] = dino_positions(weights["pos_embed"], case.grid, *grid)
    image_size = [side * case.patch for side in case.grid] if name == "deit" else list(size)
    config = ViTConfig(
        hidden_size=case.width, num_hidden_layers=case.depth, num_attention_heads=case.heads,
        intermediate_size=4 * case.width, layer_norm_eps=1e-6, image_size=image_size, patch_size=case.patch,
        num_channels=case.channels, attn_implementation="eager",
    )  # fmt: skip
    renamed = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.position_embeddings": weights["pos_embed"],
    }
    for kind in ("weight", "bias"):
        renamed[f"embeddings.patch_embeddings.projection.{kind}"] = weights[f"patch_embed.proj.{kind}"]
        renamed[f"layernorm.{kind}"] = weights[f"norm.{kind}"]
        for block in range(case.depth):
            here, there = f"blocks.{block}", f"layers.{block}"
            for ours, theirs in BLOCK_NAMES.items():
                renamed[f"{there}.{theirs}.{kind}"] = weights[f"{here}.{ours}.{kind}"]
    for block in range(case.depth):
        parts = split_qkv(weights, f"blocks.{block}.attn")
        renamed |= {f"layers.{block}.attention.{key}": value for key, value in parts.items()}
    return load(ViTModel(config, add_pooling_layer=False), renamed)


def swin(name: str, size: tuple[int, int]) -> SwinModel:
    """A new model for each size: Hugging Face's changes its own windows when it meets a small map."""
    case, _ = CASES[name]
    weights = {key: torch.from_numpy(value) for key, value in state_dict(name).items()}
    config = SwinConfig(
        embed_dim=case.width, depths=list(case.depth), num_heads=list(case.heads), window_size=case.window,
        image_size=list(size), patch_size=case.patch, num_channels=case.channels, layer_norm_eps=1e-5,
        attn_implementation="eager",
    )  # fmt: skip
    renamed = {}
    for kind in ("weight", "bias"):
        renamed[f"embeddings.patch_embeddings.projection.{kind}"] = weights[f"patch_embed.proj.{kind}"]
        renamed[f"embeddings.norm.{kind}"] = weights[f"patch_embed.norm.{kind}"]
        renamed[f"layernorm.{kind}"] = weights[f"norm.{kind}"]
    for stage, depth in enumerate(case.depth):
        for block in range(depth):
            here, there = f"layers.{stage}.blocks.{block}", f"encoder.layers.{stage}.blocks.{block}"
            for kind in ("weight", "bias"):
                for ours, theirs in BLOCK_NAMES.items():
                    renamed[f"{there}.{theirs}.{kind}"] = weights[f"{here}.{ours}.{kind}"]
            parts = split_qkv(weights, f"{here}.attn")
            renamed |= {f"{there}.attention.{key}": value for key, value in parts.items()}
            table = "relative_position_bias_table"
            renamed[f"{there}.attention.relative_position_bias.{table}"] = weights[f"{here}.attn.{table}"]
        if stage:  # timm merges at the start of a stage, Hugging Face at the end of the one before
            for key in ("norm.weight", "norm.bias", "reduction.weight"):
                renamed[f"encoder.layers.{stage - 1}.downsample.{key}"] = weights[f"layers.{stage}.downsample.{key}"]
    return load(SwinModel(config, add_pooling_layer=True), renamed)


def outputs(name: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Every block's output, attention weights of some, and the encoder's own outputs, after the final norm."""
    is_swin = name == "swin"
    model = swin(name, size) if is_swin else vit(name, size)
    blocks = [b for stage in model.encoder.layers for b in stage.blocks] if is_swin else list(model.layers)
    raw, attention = {}, {}
    for number, block in enumerate(blocks, start=1):
        block.register_forward_hook(lambda _m, _i, out, n=number: raw.update({n: out[0] if is_swin else out}))
        block.attention.register_forward_hook(lambda _m, _i, out, n=number: attention.update({n: out[1]}))
    pixels = torch.from_numpy(images(name, size)).permute(0, 3, 1, 2)
    with torch.no_grad():
        result = model(pixels) if is_swin else model(pixels, interpolate_pos_encoding=name == "deit")
    kept = (2, 4, 6, 8) if is_swin else (1, 3, 4, 6)
    arrays = {f"block_{n}": raw[n] for n in kept} | {"tokens": result.last_hidden_state}
    arrays |= {f"attention_{n}": attention[n] for n in ((5, 6) if is_swin else (3,))}
    arrays["pooled"] = result.pooler_output if is_swin else result.last_hidden_state[:, 0]
    return {f"{name}/{size[0]}x{size[1]}/{key}": value.numpy() for key, value in arrays.items()}


def write_pth() -> None:
    """Files as PyTorch writes them: a plain state dict, and a checkpoint with what such files hold beside tensors."""
    weights = {key: torch.from_numpy(value) for key, value in state_dict("swin").items()}
    small = {key: weights[key] for key in ("norm.weight", "layers.1.downsample.reduction.weight")}
    torch.save(small, HERE / "plain.pth")
    arguments = argparse.Namespace(lr=0.1, arch="swin")
    transposed = weights["layers.1.downsample.reduction.weight"].t()  # a view: its strides are not those of its shape
    checkpoint = {
        "epoch": 3,
        "args": arguments,
        "state_dict": {f"module.base_encoder.{key}": value for key, value in small.items()},
        "optimizer": {"state": {0: {"exp_avg": transposed, "step": torch.tensor(5)}}, "param_groups": [{"lr": 0.1}]},
        "half": torch.nn.Parameter(weights["norm.bias"].to(torch.bfloat16)),
        "slice": weights["norm.bias"][3:7],
    }
    torch.save(checkpoint, HERE / "checkpoint.pth")

    marked = torch.nn.Parameter(torch.arange(3.0))
    marked.note = "a parameter that carries an attribute"
    shared = torch.arange(6.0)
    odd = {
        "marked": marked,
        "by_default": collections.defaultdict(list, {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}),
        "shared": [shared, shared[2:].reshape(2, 2)],
        "flags": torch.tensor([True, False]),
        "negated": torch._neg_view(torch.arange(3.0)),
        "sparse": torch.eye(2).to_sparse(),
        "array": np.arange(2.0),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "unsigned": torch.zeros(2, dtype=torch.uint16),
        "best": np.float64(0.5),
    }
    torch.save(odd, HERE / "odd.pth")


if __name__ == "__main__":
    arrays = {}
    for name, (_, sizes) in CASES.items():
        for size in sizes:
            arrays |= outputs(name, size)
    np.savez_compressed(HERE / "outputs.npz", **arrays)
    write_pth()
    print(f"torch {torch.__version__}, {len(arrays)} arrays, {(HERE / 'outputs.npz').stat().st_size:,} bytes")
