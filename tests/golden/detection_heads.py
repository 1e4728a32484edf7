"""Writes detection_heads.npz: what PyTorch makes of a detector's necks, heads and losses.

  pip install torch==2.13.0 && python tests/golden/detection_heads.py

Only this program needs PyTorch. It shares nothing with repre_jax but the names of the tensors, from which both sides
make the values (named_values.py). The modules follow mmdetection 2 and detectron2's modeling/backbone/vit.py, as they
are described in the files that they are compared with.
"""

from pathlib import Path

import numpy as np
import torch
from named_values import value
from segmentation_heads import FpnNeck, layer_norm
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent

COUNT, WIDTH, CLASSES, HIDDEN, VIT = 2, 8, 5, 10, 16
STRIDES = (4, 8, 16, 32)
SWIN = tuple((6 * 2**stage, 64 // stride, 96 // stride) for stage, stride in enumerate(STRIDES))


class Fpn(nn.Module):
    """Swin's LayerNorms, mmdetection's FPN, and its extra level by a maximum over 1 x 1 with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = FpnNeck()

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = self.neck(maps)
        return [*maps, functional.max_pool2d(maps[-1], 1, stride=2)]


class SimplePyramid(nn.Module):
    """SimpleFeaturePyramid of detectron2 with norm LN, for patches of any power of two."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch
        for level, stride in enumerate(STRIDES, start=1):
            width, times = VIT, 0
            while stride * 2**times < patch:
                times += 1
                self.add_module(f"level_{level}_up_{times}", nn.ConvTranspose2d(width, width // 2, 2, stride=2))
                width = width // 2
                if stride * 2**times < patch:
                    self.add_module(f"level_{level}_up_norm_{times}", nn.LayerNorm(width, eps=1e-6))
            self.add_module(f"level_{level}_lateral", nn.Conv2d(width, WIDTH, 1, bias=False))
            self.add_module(f"level_{level}_lateral_norm", nn.LayerNorm(WIDTH, eps=1e-6))
            self.add_module(f"level_{level}_output", nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False))
            self.add_module(f"level_{level}_output_norm", nn.LayerNorm(WIDTH, eps=1e-6))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        modules, found = dict(self.named_children()), []
        for level, stride in enumerate(STRIDES, start=1):
            x = maps[-1]
            if stride > self.patch:
                x = functional.max_pool2d(x, stride // self.patch, stride=stride // self.patch)
            for times in (1, 2, 3):
                if f"level_{level}_up_{times}" in modules:
                    x = modules[f"level_{level}_up_{times}"](x)
                if f"level_{level}_up_norm_{times}" in modules:
                    x = functional.gelu(layer_norm(modules[f"level_{level}_up_norm_{times}"], x))
            for name in ("lateral", "output"):
                x = layer_norm(modules[f"level_{level}_{name}_norm"], modules[f"level_{level}_{name}"](x))
            found.append(x)
        return [*found, functional.max_pool2d(found[-1], 1, stride=2)]


class AnchorHead(nn.Module):
    """RPNHead, its outputs flattened as get_bboxes and loss flatten them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.objectness, self.deltas = nn.Conv2d(WIDTH, 3, 1), nn.Conv2d(WIDTH, 12, 1)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        hidden = [torch.relu(self.conv(x)) for x in maps]
        logits = [self.objectness(x).permute(0, 2, 3, 1).reshape(COUNT, -1) for x in hidden]
        deltas = [self.deltas(x).permute(0, 2, 3, 1).reshape(COUNT, -1, 4) for x in hidden]
        return [torch.cat(logits, dim=1), torch.cat(deltas, dim=1)]


class BoxHead(nn.Module):
    """Shared2FCBBoxHead; a class's four deltas lie side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_1, self.layer_2 = nn.Linear(WIDTH * 49, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.classify, self.deltas = nn.Linear(HIDDEN, CLASSES + 1), nn.Linear(HIDDEN, 4 * CLASSES)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        x = torch.relu(self.layer_2(torch.relu(self.layer_1(maps[0].flatten(1)))))
        return [self.classify(x), self.deltas(x).reshape(-1, CLASSES, 4)]


class MaskHead(nn.Module):
    """FCNMaskHead."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3, 4):
            self.add_module(f"conv_{number}", nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
        self.up, self.classify = nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2), nn.Conv2d(WIDTH, CLASSES, 1)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        x = maps[0]
        for number in (1, 2, 3, 4):
            x = torch.relu(self.get_submodule(f"conv_{number}")(x))
        return [self.classify(torch.relu(self.up(x)))]


# name -> (module, [channels, height, width] of each map that it reads)
MODULES = {
    "fpn": (Fpn, SWIN),
    "simple_16": (lambda: SimplePyramid(16), ((VIT, 4, 6),)),
    "simple_8": (lambda: SimplePyramid(8), ((VIT, 8, 8),)),
    "anchor_head": (AnchorHead, tuple((WIDTH, *size) for size in ((4, 6), (2, 3), (1, 2)))),
    "box_head": (BoxHead, ((WIDTH, 7, 7),)),
    "mask_head": (MaskHead, ((WIDTH, 14, 14),)),
}


def module(name: str) -> dict[str, np.ndarray]:
    """Outputs, and the gradient by each map of the outputs weighed by given weights; maps with channels last."""
    build, shapes = MODULES[name]
    made = build()
    wanted = {key: torch.from_numpy(value(f"{name}/{key}", tuple(x.shape))) for key, x in made.state_dict().items()}
    made.load_state_dict(wanted)
    maps = [
        torch.from_numpy(value(f"{name}/map_{number}", (COUNT, *shape))).requires_grad_()
        for number, shape in enumerate(shapes, start=1)
    ]
    outputs = [y.permute(0, 2, 3, 1) if y.ndim == 4 else y for y in made(maps)]
    weighed = [(y * torch.from_numpy(value(f"{name}/{n}", tuple(y.shape)))).sum() for n, y in enumerate(outputs)]
    gradients = torch.autograd.grad(sum(weighed), maps)
    arrays = {f"output_{number}": y for number, y in enumerate(outputs)}
    arrays |= {f"gradient_{number}": g.permute(0, 2, 3, 1) for number, g in enumerate(gradients, start=1)}
    kept = {f"{name}/{key}": tensor.detach().numpy() for key, tensor in arrays.items()}
    return kept | {f"{name}/names": np.array(sorted(wanted))}


# Two images of six samples: 1 positive, 0 background, -1 nothing sampled. The second has no positives.
SAMPLED = np.array([[1, 1, 0, 0, 0, -1], [0, 0, -1, -1, -1, -1]])
REGIONS = np.array([[2, 0, 5, 5, 5, -1], [5, 5, 5, -1, -1, -1]])  # the class, 5 for background
MASKED = np.array([[2, 0, -1], [4, -1, -1]])  # the class of a positive one


def losses() -> dict[str, np.ndarray]:
    """Of anchors, regions and masks, and their gradients by logits and deltas."""
    kept: dict[str, torch.Tensor] = {}

    def given(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(3 * value(f"losses/{name}", shape)).requires_grad_()

    def keep(name: str, loss: torch.Tensor, **inputs: torch.Tensor) -> None:
        kept[name] = loss
        for key, x in inputs.items():
            gradient = torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)[0]
            kept[f"{name}/{key}"] = torch.zeros_like(x) if gradient is None else gradient

    logits, deltas, targets = given("anchor_logits", 2, 6), given("anchor_deltas", 2, 6, 4), given("targets", 2, 6, 4)
    total = sum(max((row == 1).sum(), 1) + max((row == 0).sum(), 1) for row in SAMPLED)
    used, positive = torch.from_numpy(SAMPLED >= 0), torch.from_numpy(SAMPLED == 1)
    objectness = (
        functional.binary_cross_entropy_with_logits(logits[used], positive[used].float(), reduction="sum") / total
    )
    distance = functional.l1_loss(deltas[positive], targets[positive], reduction="sum") / total
    keep("objectness", objectness, logits=logits)
    keep("anchor_deltas", distance, deltas=deltas)

    logits, deltas = given("region_logits", 2, 6, CLASSES + 1), given("region_deltas", 2, 6, CLASSES, 4)
    classes, used = torch.from_numpy(REGIONS), torch.from_numpy(REGIONS >= 0)
    positive = used & (classes < CLASSES)
    own = deltas[positive][torch.arange(positive.sum()), classes[positive]]
    keep("class", functional.cross_entropy(logits[used], classes[used], reduction="sum") / used.sum(), logits=logits)
    distance = functional.l1_loss(own, targets[positive], reduction="sum") / used.sum()
    keep("region_deltas", distance, deltas=deltas)

    logits = given("mask_logits", 2, 3, 4, 4, CLASSES)
    positive = torch.from_numpy(MASKED >= 0)
    own = logits[positive].permute(0, 3, 1, 2)[torch.arange(positive.sum()), torch.from_numpy(MASKED)[positive]]
    wanted = (torch.from_numpy(value("losses/mask_targets", (2, 3, 4, 4))) > 0).float()[positive]
    keep("mask", functional.binary_cross_entropy_with_logits(own, wanted), logits=logits)
    return {f"losses/{name}": x.detach().numpy() for name, x in kept.items()}


if __name__ == "__main__":
    arrays = losses()
    for name in MODULES:
        arrays |= module(name)
    np.savez_compressed(HERE / "detection_heads.npz", **arrays)
    size = (HERE / "detection_heads.npz").stat().st_size
    print(f"torch {torch.__version__}, {len(arrays)} arrays, {size:,} bytes")
