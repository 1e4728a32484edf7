"""Linear probe of a frozen encoder, by one of four protocols: `:mocov3` (the default), `:dino`, `:moby`, `:mae`.

  python main.py --config configs/linear.py --config.init_from=RUN
  python main.py --config configs/linear.py:dino,cached --config.init_from=RUN    features once, without augmentation

Beside the protocol's own learning rate a grid of others is trained in the same pass; the one that a held-out part of
the training images prefers is named beside the protocol's. Sources in each protocol below.
"""

from ml_collections import ConfigDict

from configs import base_evaluation


def mocov3(config: ConfigDict) -> None:
    """moco-v3 main_lincls.py:44-53, 168-169, 196, 236-238, 272-277, 499-503, CONFIG.md:144."""


def dino(config: ConfigDict) -> None:
    """dino eval_linear.py:55, 85-110, 164-170, 243-270: cls4 for ViT-S, cls+mean for ViT-B."""
    config.linear.protocol = "dino"
    config.data.test_interpolation = "bicubic"
    config.epochs = 100.0
    config.optim.lr = 1e-3


def moby(config: ConfigDict) -> None:
    """MoBY moby_linear.py:71-100, 136-142, 189: the encoder drops paths, as in training."""
    config.linear.protocol = "moby"
    config.linear.init_std = 0.02
    config.linear.label_smoothing = 0.1
    config.encoder.drop_path = 0.2
    config.epochs = 100.0
    config.optim.schedule = "moby"
    config.optim.lr = 0.5
    config.optim.lr_start = 2.5e-7
    config.optim.lr_end = 2.5e-6
    config.optim.warmup_epochs = 5.0
    config.optim.nesterov = True
    config.optim.clip_norm = 5.0


def mae(config: ConfigDict) -> None:
    """mae main_linprobe.py:42-66, 131-141, 218-222, 252; FINETUNE.md, "Linear Probing"."""
    config.linear.protocol = "mae"
    config.linear.batch_norm = True
    config.batch_size = 16384
    config.data.test_interpolation = "bicubic"
    config.augment.interpolation = "bicubic"
    config.optim.name = "lars"
    config.optim.schedule = "moco_v3"
    config.optim.lr = 0.1
    config.optim.warmup_epochs = 10.0


def cached(config: ConfigDict) -> None:
    """Features of each image once, from its central part; what is trained on them sees no augmentation."""
    config.linear.cached = True
    config.log_every = 500  # steps are fast


def embedded(config: ConfigDict) -> None:
    """For an encoder trained on the embedded digits or scenes: the protocol, small batches of crops that suit digits.
    Tuned on neither: a tenth of the training images choose the factor of the rate."""
    base_evaluation.embedded_images(config)
    config.linear.held_out = 0.1
    config.linear.untrained = config.linear.pixels = True


def tiny(config: ConfigDict) -> None:
    """For smoke tests."""
    base_evaluation.tiny_run(config)
    config.linear.held_out = 0.1


PROTOCOLS = {"mocov3": mocov3, "dino": dino, "moby": moby, "mae": mae}


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    base_evaluation.add_training(config)
    config.task = "linear"
    config.epochs = 90.0
    config.data.test_interpolation = "bilinear"

    config.linear = ConfigDict()
    config.linear.protocol = "mocov3"
    config.linear.cached = False
    config.linear.factors = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the learning rate; each trains a head
    config.linear.held_out = 0.01  # share of the training images that choose among these instead of training
    config.linear.init_std = 0.01  # of a head's first weights
    config.linear.batch_norm = False  # True: of the features, without affine parameters
    config.linear.label_smoothing = 0.0
    config.linear.untrained = False  # True: beside it the encoder as it was before the first step
    config.linear.pixels = False  # True: and raw pixels by a ridge classifier, all in memory; with held_out alone

    config.optim.name = "sgd"
    config.optim.schedule = "simsiam"  # a half cosine, a step an epoch
    config.optim.lr = 3.0
    known = PROTOCOLS | {"digits": embedded, "scenes": embedded, "cached": cached, "tiny": tiny}
    return base_evaluation.with_variants(config, variants, known, one_of=tuple(PROTOCOLS), published=tuple(PROTOCOLS))
