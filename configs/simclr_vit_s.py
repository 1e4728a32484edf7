"""SimCLR + RePre, ViT-S/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/simclr_vit_s.py             300 epochs: linear probe 69.0 without RePre, 69.7 with it
  python main.py --config configs/simclr_vit_s.py:baseline    without RePre

Head, temperature, augmentation and the missing normalisation: simclr model_util.py:109-166, run.py:191,
data_util.py:304-366, 515-519. No source has a recipe of SimCLR for ViT: optimiser, schedule, batch and encoder (fixed
positions, frozen patch projection) are those of MoCo v3's ViT (configs/moco_vit_s.py), but with 6 heads, the usual
ViT-S; --config.encoder.variant=moco_v3 has 12. Of the augmentation, a crop is tried 10 times, not 100, with
its ratio drawn in the logarithm, and the blur is cut off at 6 pixels with edges repeated, not at 11 with zeros.
"""

from ml_collections import ConfigDict, config_dict

from configs import base


def recipe() -> ConfigDict:
    config = base.get_config()
    config.framework = ConfigDict({"name": "simclr", "out": 128, "temperature": 0.1})
    config.framework.hidden = config_dict.placeholder(int)  # of the two hidden layers; else the feature's own width
    config.data.mean = (0.0, 0.0, 0.0)
    config.data.std = (1.0, 1.0, 1.0)
    config.augment.interpolation = "bicubic"
    config.augment.jitter = (0.8, 0.8, 0.8, 0.2)
    config.augment.colours = "tensorflow"
    config.augment.blur_probability = (0.5, 0.5)
    config.augment.solarize_probability = (0.0, 0.0)
    return config


def get_config(variants: str = "") -> ConfigDict:
    config = recipe()
    config.encoder.name = "vit_s"
    config.encoder.variant = "sincos"
    return base.with_variants(config, variants)
