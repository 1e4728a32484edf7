"""Writes segmentation.npz: what PyTorch makes of the segmentation heads, of BatchNorm and of bilinear resizing.

  pip install torch==2.13.0 && python tests/golden/segmentation.py

Only this program needs PyTorch. It shares nothing with repre_jax but the names of the tensors, from which both sides
make the values (named_values.py).
"""

from pathlib import Path

import numpy as np
import torch
from named_values import value
from segmentation_heads import GRID, SWIN, WIDTH, Fpn, Linear, Mla, Naive, Pup
from torch import nn
from torch.nn.functional import interpolate

HERE = Path(__file__).resolve().parent

COUNT = 2
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


VIT_MAPS = tuple((WIDTH, *GRID) for _ in range(4))
SWIN_MAPS = tuple((WIDTH * 2**stage, *size) for stage, size in enumerate(SWIN))
# name -> (module, [channels, height, width] of each map that it reads)
HEADS = {
    "naive": (Naive, VIT_MAPS),
    "pup": (Pup, VIT_MAPS),
    "mla": (Mla, VIT_MAPS),
    "fpn": (Fpn, SWIN_MAPS),
    "linear": (lambda: Linear(WIDTH), VIT_MAPS[:1]),
    "linear_pyramid": (lambda: Linear(sum(c for c, _, _ in SWIN_MAPS)), SWIN_MAPS),
}


def head(name: str) -> dict[str, np.ndarray]:
    """Three steps in train mode from given statistics, then a test batch.

    Kept are the logits of the first step and of the test, the gradient by each map of the first step's logits, all
    auxiliary ones too, weighed by given weights, and the running statistics after the third step.
    """
    build, shapes = HEADS[name]
    module = build().train()
    wanted = {
        key: torch.from_numpy(value(f"{name}/{key}", tuple(tensor.shape)))
        for key, tensor in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    missing = module.load_state_dict(wanted, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    assert not missing.unexpected_keys

    arrays = {}
    for step in ("1", "2", "3", "test"):
        module.train(step != "test")
        maps = []
        for level, shape in enumerate(shapes, start=1):
            values = value(f"{name}/map_{level}/{step}", (COUNT, *shape)) + level
            maps.append(torch.from_numpy(values).requires_grad_())
        outputs = module(maps)
        if step == "1":
            weighed = [
                (y * torch.from_numpy(value(f"{name}/{n}", tuple(y.shape)))).sum() for n, y in enumerate(outputs)
            ]
            gradients = torch.autograd.grad(sum(weighed), maps)
            for level, gradient in enumerate(gradients, start=1):
                arrays[f"gradient_{level}"] = gradient.permute(0, 2, 3, 1)
            for number, y in enumerate(outputs[1:], start=1):
                arrays[f"auxiliary_{number}"] = y.permute(0, 2, 3, 1)
        if step in ("1", "test"):
            arrays[f"logits/{step}"] = outputs[0].permute(0, 2, 3, 1)
    arrays |= {key: tensor for key, tensor in module.state_dict().items() if "running" in key}
    kept = {f"{name}/{key}": tensor.detach().numpy() for key, tensor in arrays.items()}
    return kept | {f"{name}/names": np.array(sorted(wanted))}


if __name__ == "__main__":
    arrays = resized() | batch_norm()
    for name in HEADS:
        arrays |= head(name)
    np.savez_compressed(HERE / "segmentation.npz", **arrays)
    print(f"torch {torch.__version__}, {len(arrays)} arrays, {(HERE / 'segmentation.npz').stat().st_size:,} bytes")
