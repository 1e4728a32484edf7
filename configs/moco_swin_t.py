"""MoCo v3 + RePre, Swin-T, ImageNet-1K: Tables 1, 4 and 5 of the paper.

  python main.py --config configs/moco_swin_t.py             300 epochs: linear probe 75.4 without RePre, 76.4 with it
  python main.py --config configs/moco_swin_t.py:baseline    without RePre
  python main.py --config configs/moco_swin_t.py:single      Table 4, the last feature alone: 75.7
  python main.py --config configs/moco_swin_t.py:conv1       Table 5: conv1 76.1, conv2 (the default) 76.4, conv4 76.2;
                                                             transformer1 74.6, transformer2 75.2, transformer4 74.5

No source gives a recipe of MoCo v3 for Swin. This is the one for ViT (configs/moco_vit_s.py), the frozen patch
projection and a drop path of 0 included, with Swin's own initialisation.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "swin_t"
    return base.with_variants(config, variants)
