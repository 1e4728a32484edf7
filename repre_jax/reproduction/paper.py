"""The tables of the paper (Wang et al. 2022), as numbers: percent, None where it has none.

What its rows and columns are called here is decided in reproduction/tables.py.
"""

from typing import NamedTuple

VIT_S, VIT_B, SWIN_T = "vit_s", "vit_b", "swin_t"


class Linear(NamedTuple):
    """Of Table 1: top-1 of a linear probe on ImageNet, without and with RePre."""

    framework: str
    encoder: str
    epochs: int
    without: float | None
    repre: float | None


TABLE1 = (
    Linear("simclr", VIT_S, 300, 69.0, 69.7),
    Linear("byol", VIT_S, 300, 71.4, 72.2),
    Linear("moco_v2", VIT_S, 300, 71.6, 72.1),
    Linear("moco_v2", VIT_S, 800, 72.7, 73.4),
    Linear("moco_v3", VIT_S, 300, 72.5, 73.2),
    Linear("moco_v3", VIT_S, 600, 73.4, 73.9),
    Linear("moby", VIT_S, 300, 72.8, 73.9),
    Linear("dino", VIT_S, 300, 75.9, 76.7),
    Linear("dino", VIT_S, 800, 77.0, 77.9),
    Linear("simclr", VIT_B, 300, 73.9, 74.4),
    Linear("byol", VIT_B, 300, 73.9, 74.8),
    Linear("moco_v3", VIT_B, 300, 76.5, 77.2),
    Linear("moco_v3", VIT_B, 600, 76.7, 77.5),
    Linear("dino", VIT_B, 800, 78.2, 79.2),
    Linear("moco_v3", SWIN_T, 300, 75.4, 76.4),
    Linear("moby", SWIN_T, 100, 70.9, 71.8),
    Linear("moby", SWIN_T, 300, 75.0, 76.1),
)
# A framework of this project that the paper does not show, as long as the others.
MORE = (Linear("simsiam", VIT_S, 300, None, None),)


class Detection(NamedTuple):
    """Of Table 2: box and mask AP of Mask R-CNN on COCO, Swin-T; without and with RePre, `repre` None where the
    pre-training is supervised."""

    framework: str
    epochs: int
    without: tuple[float, float]
    repre: tuple[float, float] | None


TABLE2 = (
    Detection("supervised", 100, (41.6, 38.4), None),
    Detection("supervised", 300, (43.7, 39.8), None),
    Detection("moby", 100, (41.5, 38.3), (42.1, 39.2)),
    Detection("moby", 300, (43.6, 39.6), (44.8, 40.3)),
    Detection("dino", 100, (42.2, 38.7), (43.1, 40.0)),
)

# Table 3: mIoU and mean accuracy of SETR on Cityscapes, ViT-S, pre-trained for 300 epochs: with labels, by
# DINO without RePre, and with it.
TABLE3 = {"supervised": (71.33, 80.30), "without": (72.96, 81.32), "with": (73.40, 81.95)}

# Table 4: top-1 without RePre, with it from the last feature alone, and from features of several depths.
TABLE4 = {
    ("moco_v3", VIT_S): (72.5, 72.8, 73.2),
    ("moby", VIT_S): (72.8, 73.1, 73.9),
    ("moco_v3", SWIN_T): (75.4, 75.7, 76.4),
    ("moby", SWIN_T): (75.0, 75.4, 76.1),
}

# Table 5, MoCo v3: top-1 by fusion layers; '' is without a decoder.
FUSIONS = ("", "conv1", "conv2", "conv4", "transformer1", "transformer2", "transformer4")
TABLE5 = {
    VIT_S: (72.5, 73.0, 73.2, 73.2, 71.8, 72.0, 71.4),
    SWIN_T: (75.4, 76.1, 76.4, 76.2, 74.6, 75.2, 74.5),
}

WORKLOAD = 4.0  # section 4.1: what RePre adds, in percent, "average"
