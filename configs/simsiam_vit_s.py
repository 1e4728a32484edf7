"""SimSiam + RePre, ViT-S/16, ImageNet-1K: the paper names SimSiam (section 3.1) and has no figure for it.

  python main.py --config configs/simsiam_vit_s.py             300 epochs: no figure in the paper
  python main.py --config configs/simsiam_vit_s.py:baseline    without RePre

Heads, augmentation and the predictor's constant learning rate: simsiam simsiam/builder.py:24-42,
main_simsiam.py:193-201, 229-239. No source has a recipe of SimSiam for ViT: optimiser, schedule, batch and encoder
(fixed positions, frozen patch projection) are those of MoCo v3's ViT (configs/moco_vit_s.py), but with 6 heads, the
usual ViT-S; --config.encoder.variant=moco_v3 has 12. The predictor's constant rate, SimSiam's, has no warm-up then
either, while the other tensors' has.
"""

from ml_collections import ConfigDict, config_dict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "vit_s"
    config.encoder.variant = "sincos"
    config.framework = ConfigDict({"name": "simsiam", "predictor_hidden": 512, "out": 2048})
    config.framework.hidden = config_dict.placeholder(int)  # of the projector; else the feature's own width
    config.augment.crop_scale = (0.2, 1.0)
    config.augment.jitter = (0.4, 0.4, 0.4, 0.1)
    config.augment.blur_probability = (0.5, 0.5)
    config.augment.solarize_probability = (0.0, 0.0)
    config.optim.rules = (base.FROZEN_PATCHES, ("^predictor/", "constant_lr", 1.0))
    return base.with_variants(config, variants)
