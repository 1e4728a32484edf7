"""torchvision's Mask R-CNN with Swin-T, a training step: what benchmarks/detection_step.py compares ours with.

  python benchmarks/torch_detection.py FILE      (benchmarks/detection_step.py writes the file and starts this)

FILE is an .npz of one batch: images uint8 [B, H, W, 3], and boxes, classes and bits of masks of objects [B, n, ...].
A line 'step 5' on standard input is answered by the seconds a step of five training steps, as JSON on what was the
standard output; 'memory' by the most bytes that were held, on a CPU by the whole process.

torchvision's own detector, RoIAlign and NMS: two samples a bin instead of as many as there are cells, soft mask
targets, smooth L1; as many anchors, proposals and regions as ours. Images keep their size. Its Swin-T pads each block
to whole windows as ours does; drop path 0.1, AdamW.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

CLASSES = 81
WIDTHS = (96, 192, 384, 768)


class Backbone(nn.Module):
    """Swin-T's four stages, a LayerNorm each, and a feature pyramid."""

    def __init__(self):
        super().__init__()
        sizes = {"patch_size": [4, 4], "embed_dim": WIDTHS[0], "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
        made = torchvision.models.SwinTransformer(**sizes, window_size=[7, 7], stochastic_depth_prob=0.1)
        self.stages = made.features  # not models.swin_t, which has a drop path of its own
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in WIDTHS)
        self.pyramid = FeaturePyramidNetwork(list(WIDTHS), 256, LastLevelMaxPool())
        self.out_channels = 256

    def forward(self, x):
        maps = {}
        for number, stage in enumerate(self.stages):  # embedding, stage, merging, stage, ...
            x = stage(x)
            if number % 2:
                maps[str(number // 2)] = self.norms[number // 2](x).permute(0, 3, 1, 2)
        return self.pyramid(maps)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints
    with np.load(sys.argv[1]) as stored:
        batch = dict(stored)
    height, width = batch["images"].shape[1:3]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    anchors = AnchorGenerator(tuple((8 * stride,) for stride in (4, 8, 16, 32, 64)), ((0.5, 1.0, 2.0),) * 5)
    sizes = {"min_size": min(height, width), "max_size": max(height, width), "size_divisible": 32}
    model = MaskRCNN(Backbone(), CLASSES, rpn_anchor_generator=anchors, rpn_post_nms_top_n_train=1000, **sizes)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05)
    images = [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255 for image in batch["images"]]
    targets = [
        {
            "boxes": torch.from_numpy(boxes).to(device),
            "labels": torch.from_numpy(classes + 1).long().to(device),
            "masks": torch.from_numpy(np.unpackbits(bits, axis=-1)).to(device),
        }
        for boxes, classes, bits in zip(batch["boxes"], batch["classes"], batch["masks"], strict=True)
    ]

    def steps(count):
        begun = time.perf_counter()
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                losses = model(images, targets)
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        float(total.detach())
        return (time.perf_counter() - begun) / count

    about = {"torch": torch.__version__, "torchvision": torchvision.__version__, "threads": torch.get_num_threads()}
    about["parameters"] = sum(each.numel() for each in model.parameters())
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        what = line.split()
        print(json.dumps(held(device) if what[0] == "memory" else steps(int(what[1]))), file=answers, flush=True)


def held(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
