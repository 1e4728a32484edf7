"""MoCo v2 + RePre, ViT-S/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/moco_v2_vit_s.py             300 epochs: linear probe 71.6 without RePre, 72.1 with it
  python main.py --config configs/moco_v2_vit_s.py:epochs=800  72.7 and 73.4
  python main.py --config configs/moco_v2_vit_s.py:baseline    without RePre

Head, queue, temperature, constant momentum and augmentation: moco moco/builder.py:34-79, main_moco.py:162-166, 326-338,
README.md:51. No source has a recipe of MoCo v2 for ViT: optimiser, schedule, batch and encoder (fixed positions, frozen
patch projection) are those of MoCo v3's ViT (configs/moco_vit_s.py), but with 6 heads, the usual ViT-S;
--config.encoder.variant=moco_v3 has 12.
"""

from ml_collections import ConfigDict, config_dict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "vit_s"
    config.encoder.variant = "sincos"
    config.framework = ConfigDict({"name": "moco_v2", "out": 128, "temperature": 0.2})
    config.framework.hidden = config_dict.placeholder(int)  # of the hidden layer; else the feature's own width
    config.framework.queue = 65_536  # keys; a multiple of the batch
    config.framework.momentum = 0.999  # throughout
    config.framework.momentum_end = 0.999
    config.augment.crop_scale = (0.2, 1.0)
    config.augment.jitter = (0.4, 0.4, 0.4, 0.1)
    config.augment.blur_probability = (0.5, 0.5)
    config.augment.solarize_probability = (0.0, 0.0)
    return base.with_variants(config, variants)
