"""MoCo v3 + RePre, ViT-S/16, ImageNet-1K: Tables 1, 4 and 5 of the paper.

  python main.py --config configs/moco_vit_s.py             300 epochs: linear probe 72.5 without RePre, 73.2 with it
  python main.py --config configs/moco_vit_s.py:epochs=600  73.4 and 73.9
  python main.py --config configs/moco_vit_s.py:baseline    without RePre
  python main.py --config configs/moco_vit_s.py:single      Table 4, the last feature alone: 72.8
  python main.py --config configs/moco_vit_s.py:conv1       Table 5: conv1 73.0, conv2 (the default) 73.2, conv4 73.2;
                                                            transformer1 71.8, transformer2 72.0, transformer4 71.4
  python main.py --config configs/moco_vit_s.py:digits      the demo, minutes on two CPU cores

Recipe: moco-v3 CONFIG.md:109-133 (AdamW, 1.5e-4 per 256 images, batch 4096, weight decay 0.1, 40 epochs of warm-up,
temperature 0.2, momentum 0.99 -> 1), main_moco.py:262-285 (augmentation), vits.py:115-118 (12 heads). The paper trains
with "basically the same" recipe as each framework's authors (section 4.1).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variants: str = "") -> ConfigDict:
    config = base.get_config()
    config.encoder.name = "vit_s"
    return base.with_variants(config, variants)
