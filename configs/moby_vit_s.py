"""MoBY + RePre, ViT-S/16 (DeiT-S), ImageNet-1K: Tables 1 and 4 of the paper.

  python main.py --config configs/moby_vit_s.py             300 epochs: linear probe 72.8 without RePre, 73.9 with it
  python main.py --config configs/moby_vit_s.py:baseline    without RePre
  python main.py --config configs/moby_vit_s.py:single      Table 4, the last feature alone: 73.1

Recipe: MoBY configs/moby_*.yaml:1-5, config.py:96-124, lr_scheduler.py:21-28, optimizer.py:35-49 (AdamW, 1e-3 per 512
images, batch 512, decay 0.05 of all but vectors, 5 epochs of warm-up, norm of all gradients at most 5, drop path 0.2),
models/moby.py (heads, queues, momentum 0.99 -> 1), data/build.py:100-118 (augmentation, the same as MoCo v3's). Two
slips of the code are not repeated: BatchNorm before MLPs that it announces and never builds, and a momentum that starts
anew with each continued run (models/build.py:41, models/moby.py:77-78). RePre's log-variances are not clipped and do
not count in the norm.
"""

from ml_collections import ConfigDict

from configs import base


def recipe() -> ConfigDict:
    config = base.get_config()
    config.batch_size = 512
    config.encoder.variant = "deit"
    config.encoder.drop_path = 0.2
    config.framework = ConfigDict({"name": "moby", "hidden": 4096, "out": 256, "temperature": 0.2})
    config.framework.queue = 4096  # keys of each view; a multiple of the batch
    config.framework.momentum = 0.99
    config.framework.momentum_end = 1.0
    config.optim.schedule = "moby"
    config.optim.lr = 5e-4  # MoBY's numbers are per 512 images
    config.optim.lr_start = 2.5e-7
    config.optim.lr_end = 2.5e-6
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 5.0
    config.optim.rules = (base.UNDECAYED,)
    return config


def get_config(variants: str = "") -> ConfigDict:
    config = recipe()
    config.encoder.name = "vit_s"
    return base.with_variants(config, variants)
