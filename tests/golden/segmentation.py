"""Writes segmentation.npz: what PyTorch makes of the segmentation heads, of BatchNorm and of bilinear resizing.

  pip install torch==2.13.0 && python tests/golden/segmentation.py

Only this program needs PyTorch. It shares nothing with repre_jax but the names of the tensors, from which both sides
make the values (named_values.py).
"""

from pathlib import Path

import numpy as np
import torch
from named_values import value
from torch import nn
from torch.nn.functional import interpolate

HERE = Path(__file__).resolve().parent

SIZES = ((5, 7), (3, 3), (9, 8), (12, 28), (1, 5), (5, 1))  # to which maps of 6 x 7 are resized, one side or both


def resized() -> dict[str, np.ndarray]:
    x = torch.from_numpy(value("resize", (1, 2, 6, 7)))
    arrays = {}
    for size in SIZES:
        for corners in (False, True):
            y = interpolate(x, size=size, mode="bilinear", align_corners=corners)
            arrays[f"resize/{size[0]}x{size[1]}/{corners}"] = y.permute(0, 2, 3, 1).numpy()
    return arrays


def batch_norm() -> dict[str, np.ndarray]:
    """Three steps of the probe's, whose features have a large mean, then a test batch."""
    norm = nn.BatchNorm1d(4, affine=False, eps=1e-6)
    arrays = {}
    for step in (1, 2, 3):
        arrays[f"batch_norm/{step}"] = norm(torch.from_numpy(20 + value(f"batch_norm/{step}", (6, 4)))).numpy()
    arrays |= {"batch_norm/mean": norm.running_mean.numpy(), "batch_norm/var": norm.running_var.numpy()}
    arrays["batch_norm/test"] = norm.eval()(torch.from_numpy(20 + value("batch_norm/test", (6, 4)))).numpy()
    return arrays


if __name__ == "__main__":
    arrays = resized() | batch_norm()
    np.savez_compressed(HERE / "segmentation.npz", **arrays)
    print(f"torch {torch.__version__}, {len(arrays)} arrays, {(HERE / 'segmentation.npz').stat().st_size:,} bytes")
