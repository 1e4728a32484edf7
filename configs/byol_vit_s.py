"""BYOL + RePre, ViT-S/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/byol_vit_s.py             300 epochs: linear probe 71.4 without RePre, 72.2 with it
  python main.py --config configs/byol_vit_s.py:baseline    without RePre

Heads and momentum (0.99 -> 1): solo-learn's ImageNet recipe, scripts/pretrain/imagenet/byol.yaml:18-24; augmentation:
its asymmetric.yaml, the same as MoCo v3's. No source has a recipe of BYOL for ViT: optimiser, schedule, batch and
encoder (fixed positions, frozen patch projection) are those of MoCo v3's ViT (configs/moco_vit_s.py), but with 6 heads,
the usual ViT-S; --config.encoder.variant=moco_v3 has 12.
"""

from ml_collections import ConfigDict

from configs import base


def recipe() -> ConfigDict:
    config = base.get_config()
    config.framework = ConfigDict({"name": "byol", "hidden": 4096, "out": 256, "momentum": 0.99, "momentum_end": 1.0})
    config.augment.interpolation = "bicubic"
    return config


def get_config(variants: str = "") -> ConfigDict:
    config = recipe()
    config.encoder.name = "vit_s"
    config.encoder.variant = "sincos"
    return base.with_variants(config, variants)
