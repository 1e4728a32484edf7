"""Both kinds of encoder against another library's outputs (tests/golden/generate.py)."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from repre_jax.interop import timm
from tests.golden.encoders import swin, vit
from tests.golden.weights import CASES, images, state_dict

GOLDEN = Path(__file__).parent / "golden" / "outputs.npz"


def relative(got, wanted):
    return np.abs(np.asarray(got).reshape(wanted.shape) - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, (_, sizes) in CASES.items() for size in sizes])
def test_outputs_equal_those_of_another_library(name, size):
    """Hugging Face transformers on PyTorch (tests/golden/generate.py), float32, every level within 1e-4."""
    encoder = swin() if name == "swin" else vit(name, heads=CASES[name][0].heads)
    weights = state_dict(name)
    if name == "moco_v3":
        del weights["pos_embed"]
    params = timm.load(weights, encoder)
    wanted = np.load(GOLDEN)
    blocks, attention_of = ((2, 4, 6, 8), (5, 6)) if name == "swin" else ((1, 3, 4, 6), (3,))
    prefix = f"{name}/{size[0]}x{size[1]}/"
    for asked in attention_of:
        output = jax.jit(functools.partial(encoder.apply, attention_of=asked))({"params": params}, images(name, size))
        for block, level in zip(blocks, output.pyramid, strict=True):
            raw = wanted[f"{prefix}block_{block}"]
            assert relative(level, raw if name == "swin" else raw[:, 1:]) < 1e-4, block
        tokens = wanted[f"{prefix}tokens"]
        assert relative(output.tokens, tokens if name == "swin" else tokens[:, 1:]) < 1e-4
        assert relative(output.pooled, wanted[f"{prefix}pooled"]) < 1e-4
        assert relative(output.attention, wanted[f"{prefix}attention_{asked}"]) < 1e-4
