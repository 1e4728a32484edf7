"""DINO + RePre, ViT-S/16, ImageNet-1K: Tables 1 and 3 of the paper.

  python main.py --config configs/dino_vit_s.py               300 epochs: linear probe 75.9 without RePre, 76.7 with it
  python main.py --config configs/dino_vit_s.py:epochs=800    77.0 and 77.9
  python main.py --config configs/dino_vit_s.py:baseline      without RePre
  Table 3, SETR on Cityscapes after 300 epochs: 72.96 mIoU, 81.32 mAcc without RePre, 73.40 and 81.95 with it

Recipe: dino main_dino.py:43-117, 225-251, README.md:188-202, the "boosted" one of 300 epochs: two views and eight local
ones, teacher's temperature 0.04 -> 0.07 over 30 epochs, prototypes of learned length; AdamW, 5e-4 per 256 images, batch
1024, decay 0.04 -> 0.4 of all but vectors, each gradient's norm at most 3, prototypes frozen in the first epoch, drop
path 0.1, momentum 0.996 -> 1. The arguments of DINO's own run of 800 epochs are not in its repository; here only the
epochs change. RePre rebuilds the first of the two large views, never a local one; its log-variances are not clipped.
The k-NN that a run prints is the student's, as with every framework; DINO's authors evaluate the teacher.
"""

from ml_collections import ConfigDict

from configs import base


def recipe() -> ConfigDict:
    config = base.get_config()
    config.batch_size = 1024
    config.encoder.variant = "dino"
    config.encoder.drop_path = 0.1
    config.framework = ConfigDict({"name": "dino", "hidden": 2048, "bottleneck": 256})
    config.framework.out = 65_536  # prototypes
    config.framework.train_gain = False  # True: prototypes of learned length (norm_last_layer false)
    config.framework.batch_norm = False  # in the head (use_bn_in_head)
    config.framework.temperature = 0.1  # the student's
    config.framework.teacher_temperature = (0.04, 0.07)  # first and last
    config.framework.teacher_warmup_epochs = 30.0  # from the one to the other
    config.framework.centre_momentum = 0.9
    config.framework.momentum = 0.996
    config.framework.momentum_end = 1.0
    config.augment.crop_scale = (0.4, 1.0)
    config.augment.interpolation = "bicubic"
    config.augment.blur_probability = (1.0, 0.1, 0.5)
    config.augment.solarize_probability = (0.0, 0.2, 0.0)
    config.augment.local_views = 8
    config.optim.schedule = "dino"
    config.optim.lr = 5e-4
    config.optim.lr_end = 1e-6
    config.optim.warmup_epochs = 10.0
    config.optim.weight_decay = 0.04
    config.optim.weight_decay_end = 0.4
    config.optim.clip_norm = 3.0
    config.optim.clip_each = True
    config.optim.rules = (base.UNDECAYED, ("^projector/(direction|gain)$", "frozen_epochs", 1.0))
    return config


def get_config(variants: str = "") -> ConfigDict:
    config = recipe()
    config.encoder.name = "vit_s"
    config.framework.train_gain = True
    return base.with_variants(config, variants)
