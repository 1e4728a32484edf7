"""MoCo v3 + RePre, ViT-B/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/moco_vit_b.py             300 epochs: linear probe 76.5 without RePre, 77.2 with it
  python main.py --config configs/moco_vit_b.py:epochs=600  76.7 and 77.5
  python main.py --config configs/moco_vit_b.py:baseline    without RePre

Recipe: that of configs/moco_vit_s.py, which moco-v3 uses for both sizes (CONFIG.md:113, 197-205).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "vit_b"
    return base.with_variants(config, variants)
