"""MoBY + RePre, Swin-T, ImageNet-1K: Tables 1, 2 and 4 of the paper.

  python main.py --config configs/moby_swin_t.py               300 epochs: linear probe 75.0 without RePre, 76.1 with it
  python main.py --config configs/moby_swin_t.py:epochs=100    70.9 and 71.8
  python main.py --config configs/moby_swin_t.py:baseline      without RePre
  python main.py --config configs/moby_swin_t.py:single        Table 4, the last feature alone: 75.4
  Table 2, Mask R-CNN on COCO, box and mask AP without -> with RePre: after 100 epochs 41.5, 38.3 -> 42.1, 39.2; after
  300 epochs 43.6, 39.6 -> 44.8, 40.3

Recipe: that of configs/moby_vit_s.py, which MoBY uses for both. As there, Swin's tables of position biases decay.
"""

from ml_collections import ConfigDict

from configs import base, moby_vit_s


def get_config(variants: str = "") -> ConfigDict:
    config = moby_vit_s.recipe()
    config.encoder.name = "swin_t"
    return base.with_variants(config, variants)
