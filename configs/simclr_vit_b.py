"""SimCLR + RePre, ViT-B/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/simclr_vit_b.py             300 epochs: linear probe 73.9 without RePre, 74.4 with it
  python main.py --config configs/simclr_vit_b.py:baseline    without RePre

Recipe: that of configs/simclr_vit_s.py.
"""

from ml_collections import ConfigDict

from configs import base, simclr_vit_s


def get_config(variants: str = "") -> ConfigDict:
    config = simclr_vit_s.recipe()
    config.encoder.name = "vit_b"
    return base.with_variants(config, variants)
