"""VICReg + RePre, ViT-S/16, ImageNet-1K: not in the RePre paper, which has no figure for it.

  python main.py --config configs/vicreg_vit_s.py             300 epochs: no figure anywhere
  python main.py --config configs/vicreg_vit_s.py:baseline    without RePre
  python main.py --config configs/vicreg_vit_s.py:digits      k-NN 96.1 after 1,123 steps on two CPU cores, and 96.7
                                                              with :digits,baseline (one run each, seed 0: 2 of 360
                                                              digits apart); untrained encoder 65.8, raw pixels 94.4

Projector, coefficients and augmentation, which is BYOL's: the paper (Bardes, Ponce and LeCun, ICLR 2022), section 4.2
and appendix. Its recipe (LARS, batch 2048) is for convnets, so that the one here is ours: optimiser, schedule, batch
and encoder (fixed positions, frozen patch projection) are those of MoCo v3's ViT (configs/moco_vit_s.py), but with 6
heads, the usual ViT-S; --config.encoder.variant=moco_v3 has 12.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "vit_s"
    config.encoder.variant = "sincos"
    config.framework = ConfigDict({"name": "vicreg", "hidden": 8192, "out": 8192})
    config.framework.invariance = 25.0  # what each of the loss's three terms counts
    config.framework.variance = 25.0
    config.framework.covariance = 1.0
    config.augment.interpolation = "bicubic"
    return base.with_variants(config, variants)
