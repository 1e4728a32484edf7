"""DINO + RePre, Swin-T, ImageNet-1K: Table 2 of the paper.

  python main.py --config configs/dino_swin_t.py             100 epochs; Mask R-CNN on COCO: 42.2 box, 38.7 mask AP
                                                             without RePre, 43.1 and 40.0 with it
  python main.py --config configs/dino_swin_t.py:baseline    without RePre

No source gives a recipe of DINO for Swin. This is the one for ViT (configs/dino_vit_s.py) with Swin's own
initialisation, prototypes of length 1 (DINO's default) and the 100 epochs of the table, of which the teacher's
temperature takes 30 to reach 0.07, as in the run of 300.
"""

from ml_collections import ConfigDict

from configs import base, dino_vit_s


def get_config(variants: str = "") -> ConfigDict:
    config = dino_vit_s.recipe()
    config.encoder.name = "swin_t"
    config.epochs = 100.0
    return base.with_variants(config, variants)
