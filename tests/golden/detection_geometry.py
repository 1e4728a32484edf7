"""Writes detection_geometry.npz: what torchvision makes of boxes, suppression, RoIAlign and mask targets.

  pip install torch==2.13.0 torchvision==0.28.0 && python tests/golden/detection_geometry.py

Only this program needs them. It shares nothing with repre_jax: both sides make the inputs in detection_boxes.py.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from detection_boxes import STDS, STRIDES, THRESHOLDS, boxes, crowded, level_maps, mask_regions, masks, regions
from named_values import value
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder

HERE = Path(__file__).resolve().parent


def overlaps() -> dict[str, torch.Tensor]:
    first, second = torch.from_numpy(boxes("first", 30)), torch.from_numpy(boxes("second", 20))
    return {"iou": ops.box_iou(first, second)}


def coder() -> dict[str, torch.Tensor]:
    """torchvision holds the deltas' upper end alone: these are far from both."""
    code = BoxCoder(tuple(1 / std for std in STDS))
    at, to = torch.from_numpy(boxes("anchors", 30)), torch.from_numpy(boxes("targets", 30))
    deltas = torch.from_numpy(value("deltas", (30, 4)))
    return {"encoded": code.encode_single(to, at), "decoded": code.decode_single(deltas, at)}


def suppression() -> dict[str, torch.Tensor]:
    """Which of 500 boxes are kept, alone and in five groups."""
    given = torch.from_numpy(crowded())
    scores, groups = torch.from_numpy(value("scores", (500,))), torch.arange(500) % 5
    found = {}
    for threshold in THRESHOLDS:
        for name, kept in (
            ("one", ops.nms(given, scores, threshold)),
            ("groups", ops.batched_nms(given, scores, groups, threshold)),
        ):
            found[f"nms/{name}/{threshold}"] = torch.zeros(500, dtype=torch.bool).index_fill(0, kept, True)
    return found


def align() -> dict[str, torch.Tensor]:
    """Of every region at every level, and at the outer two in smaller bins with the gradient by the map."""
    found = {}
    given = torch.from_numpy(regions())
    for stride, level in zip(STRIDES, level_maps(), strict=True):
        x = torch.from_numpy(level).permute(2, 0, 1)[None].requires_grad_()
        y = ops.roi_align(x, [given], 7, 1 / stride, sampling_ratio=0, aligned=True)
        found[f"align/{stride}/7"] = y.permute(0, 2, 3, 1)
        if stride in (STRIDES[0], STRIDES[-1]):
            y = ops.roi_align(x, [given], 14, 1 / stride, sampling_ratio=0, aligned=True)
            weighed = (y * torch.from_numpy(value("weights", tuple(y.shape)))).sum()
            found[f"align/{stride}/14"] = y.permute(0, 2, 3, 1)
            found[f"gradient/{stride}"] = torch.autograd.grad(weighed, x)[0][0].permute(1, 2, 0)
    return found


def covered() -> dict[str, torch.Tensor]:
    """What share of each bin is covered, before the comparison with one half."""
    given = masks()
    at = torch.from_numpy(mask_regions())
    index = torch.arange(len(at)) % len(given)
    numbered = torch.cat([index[:, None].float(), at], dim=1)
    bitmaps = torch.from_numpy(given.astype(np.float32))[:, None]
    return {"covered": ops.roi_align(bitmaps, numbered, 28, 1.0, sampling_ratio=0, aligned=True)[:, 0]}


if __name__ == "__main__":
    found = overlaps() | coder() | suppression() | align() | covered()
    arrays = {name: tensor.detach().numpy() for name, tensor in found.items()}
    np.savez_compressed(HERE / "detection_geometry.npz", **arrays)
    size = (HERE / "detection_geometry.npz").stat().st_size
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {len(arrays)} arrays, {size:,} bytes")
