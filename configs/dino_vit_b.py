"""DINO + RePre, ViT-B/16, ImageNet-1K: Table 1 of the paper.

  python main.py --config configs/dino_vit_b.py             800 epochs: linear probe 78.2 without RePre, 79.2 with it
  python main.py --config configs/dino_vit_b.py:baseline    without RePre

Recipe: that of configs/dino_vit_s.py, but with prototypes of length 1, as DINO advises for this size
(main_dino.py:57-60); the teacher's temperature goes to 0.07 as there. DINO's own arguments for ViT-B are not in its
repository.
"""

from ml_collections import ConfigDict

from configs import base, dino_vit_s


def get_config(variants: str = "") -> ConfigDict:
    config = dino_vit_s.recipe()
    config.encoder.name = "vit_b"
    config.epochs = 800.0
    return base.with_variants(config, variants)
