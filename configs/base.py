"""Every key of a pre-training config with its default, and the ':variant' grammar.

The defaults are those of MoCo v3 + RePre on ImageNet; the other files say only what differs. Values are plain:
epochs, rates per 256 images, fractions. What follows from them is worked out in repre_jax/core/schedules.py.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict, config_dict

from repre_jax.core.errors import UserError

SWIN = ("swin_t", "swin_s", "swin_b")


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.task = "pretrain"  # what main.py runs
    config.seed = 0  # of the parameters, the record order and every random draw
    config.batch_size = 4096  # records a step, over all devices
    config.epochs = 300.0  # passes over the training split
    config.total_steps = config_dict.placeholder(int)  # instead of epochs; warm-up keeps its share
    config.dtype = "bfloat16"  # of matrix products; parameters, norms, softmax and losses stay float32
    config.log_every = 50  # steps between two lines of the log

    config.data = ConfigDict()
    config.data.name = "imagenet2012"  # a TFDS name prepared as ArrayRecord, or 'digits'
    config.data.dir = config_dict.placeholder(str)  # where data sets lie; else $TFDS_DATA_DIR, else TFDS's default
    config.data.train_split = "train"  # TFDS's split syntax
    config.data.test_split = config_dict.placeholder(str)  # else 'validation' where there is one, else 'test'
    config.data.image_size = (224, 224)  # height, width of a view
    config.data.test_crop = 0.875  # central part of a test image that is kept (224 of 256)
    config.data.mean = (0.485, 0.456, 0.406)  # per channel, of pixels in 0..1
    config.data.std = (0.229, 0.224, 0.225)
    config.data.workers = 8  # processes that decode and crop; 0: threads of the main process

    config.augment = ConfigDict()  # recipes of MoCo v3 for ViT (moco-v3 main_moco.py:262-285)
    config.augment.crop_scale = (0.08, 1.0)  # area of a crop, as a fraction of the image
    config.augment.crop_ratio = (3 / 4, 4 / 3)  # width / height of a crop
    config.augment.jitter = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
    config.augment.jitter_probability = 0.8
    config.augment.grey_probability = 0.2
    config.augment.blur_probability = (1.0, 0.1)  # view 1, view 2
    config.augment.blur_sigma = (0.1, 2.0)  # pixels
    config.augment.solarize_probability = (0.0, 0.2)  # view 1, view 2
    config.augment.flip_probability = 0.5

    config.encoder = ConfigDict()
    config.encoder.name = "vit_s"  # vit_ti, vit_s, vit_b, vit_l, swin_t, swin_s or swin_b
    config.encoder.flavour = "moco_v3"  # of a ViT, its positions, heads and initialisation: or 'deit', 'dino'
    config.encoder.drop_path = 0.0  # of the online encoder's last block, rising to it from 0 (moco-v3 passes none)
    config.encoder.remat = False  # True: save memory by computing each block twice
    config.encoder.patch = config_dict.placeholder(int)  # side of a patch in pixels; else 16 for ViT, 4 for Swin
    config.encoder.hierarchies = config_dict.placeholder(int)  # ViT: K of RePre section 3.2, else 4; Swin: its stages
    config.encoder.width = config_dict.placeholder(int)  # width, depth, heads, window: else what the name stands for
    config.encoder.depth = config_dict.placeholder(tuple)  # blocks; for Swin one number a stage
    config.encoder.heads = config_dict.placeholder(tuple)  # likewise
    config.encoder.window = config_dict.placeholder(int)  # Swin's, in patches

    config.framework = ConfigDict()
    config.framework.name = "moco_v3"
    config.framework.hidden = 4096  # hidden width of projector and predictor
    config.framework.out = 256  # width of the embedding
    config.framework.temperature = 0.2
    config.framework.momentum = 0.99  # of the target at the start; rises to 1 as a half cosine

    config.repre = ConfigDict()
    config.repre.enabled = True  # False: the contrastive baseline
    config.repre.preset = "paper"  # widths: the text's; or 'light': with 1 or 2 conv layers at most 4 % of the step
    config.repre.single = False  # True: decode the last feature alone (Table 4)
    config.repre.operator = "conv"  # of fusion layers, or 'transformer' (Table 5)
    config.repre.fusion_layers = 2  # in each decoder block (Table 5)
    config.repre.views = 1  # of the two, how many are reconstructed (Algorithm 1 has the first)
    config.repre.balance_lr_scale = 1.0  # learning rate of the two log-variances, relative to the others

    config.optim = ConfigDict()  # AdamW (moco-v3 main_moco.py:229-230, CONFIG.md:109-113)
    config.optim.lr = 1.5e-4  # per 256 images
    config.optim.warmup_epochs = 40.0
    config.optim.weight_decay = 0.1
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    # Exceptions: (pattern found in a parameter's path, 'lr_scale' or 'weight_decay', value); lr_scale 0 freezes.
    config.optim.rules = (("^encoder/patch_embed/", "lr_scale", 0.0),)  # vits.py:49-51, --stop-grad-conv1

    config.knn = ConfigDict()  # DINO's vote, during training and at the end
    config.knn.times = 10  # measurements over the run, evenly spaced
    config.knn.k = 20
    config.knn.train_records = 51_200  # at most, the first of the split
    config.knn.test_records = 10_240

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps
    config.checkpoint.keep = 2  # newest checkpoints that stay
    return config


def digits_data(config: ConfigDict) -> None:
    """scikit-learn's digits instead of ImageNet: grey, upright, centred, so no flip, hue, solarize or tight crop."""
    config.data.name = "digits"
    config.data.test_crop = 1.0
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.data.workers = 0
    config.augment.crop_scale = (0.7, 1.0)
    config.augment.jitter = (0.4, 0.4, 0.0, 0.0)
    config.augment.grey_probability = 0.0
    config.augment.blur_probability = (0.0, 0.0)
    config.augment.solarize_probability = (0.0, 0.0)
    config.augment.flip_probability = 0.0


def digits(config: ConfigDict) -> None:
    """The embedded digits and an encoder that two CPU cores train in minutes. Tuned on this data set, seed 0."""
    digits_data(config)
    config.data.image_size = (16, 16)
    config.dtype = "float32"
    if config.encoder.name in SWIN:
        config.encoder.update(width=32, depth=(1, 2, 1), heads=(2, 4, 8), patch=2, window=4)
    else:
        config.encoder.update(width=64, depth=(4,), heads=(4,), patch=4)
    config.framework.hidden = 256
    config.framework.out = 64
    config.framework.momentum = 0.9  # a short run needs a quick target
    config.batch_size = 64
    config.epochs = 100.0
    config.optim.lr = 1.2e-2
    config.optim.warmup_epochs = 4.0
    config.log_every = 50
    config.checkpoint.every = 200


def tiny(config: ConfigDict) -> None:
    """The smallest run that goes through everything, for smoke tests."""
    if config.data.name == "imagenet2012":
        digits_data(config)
    config.data.image_size = (32, 32)
    config.data.workers = 0
    config.dtype = "float32"
    if config.encoder.name in SWIN:
        config.encoder.update(width=16, depth=(1, 1, 1, 1), heads=(1, 2, 4, 8), patch=4, window=4)
    else:
        config.encoder.update(width=32, depth=(4,), heads=(4,), patch=8)
    config.framework.hidden = 64
    config.framework.out = 64
    config.batch_size = 16
    config.total_steps = 8
    config.log_every = 2
    config.checkpoint.every = 2
    config.knn.times = 2
    config.knn.train_records = 256
    config.knn.test_records = 64


def baseline(config: ConfigDict) -> None:
    """The contrastive framework alone."""
    config.repre.enabled = False


def decoder(**settings: Any) -> Callable[[ConfigDict], None]:
    """Another way to build the decoder."""
    return lambda config: config.repre.update(settings)


FUSIONS = {  # Table 5
    "conv1": decoder(fusion_layers=1),
    "conv2": decoder(fusion_layers=2),
    "conv4": decoder(fusion_layers=4),
    "transformer1": decoder(operator="transformer", fusion_layers=1),
    "transformer2": decoder(operator="transformer", fusion_layers=2),
    "transformer4": decoder(operator="transformer", fusion_layers=4),
}
DECODERS = {"light": decoder(preset="light"), "both": decoder(views=2), "single": decoder(single=True)} | FUSIONS
VARIANTS = {"digits": digits, "baseline": baseline} | DECODERS | {"tiny": tiny}


def with_variants(config: ConfigDict, variants: str) -> ConfigDict:
    """Applies 'digits,baseline' and the like, in the order of VARIANTS. Raises UserError for unknown ones."""
    names = [name.strip() for name in variants.split(",") if name.strip()]
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UserError(f"Unknown variant {unknown[0]!r}.\n  expected: {', '.join(VARIANTS)}, joined by commas")
    fusions = [name for name in names if name in FUSIONS]
    if len(set(fusions)) > 1:
        raise UserError(f"Variants {' and '.join(fusions)} exclude each other.\n  change:   keep one of them")
    if "baseline" in names and set(names) & DECODERS.keys():
        raise UserError("Variant baseline has no decoder, so that no variant of the decoder goes with it.")
    for name, change in VARIANTS.items():
        if name in names:
            change(config)
    return config
