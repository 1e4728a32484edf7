"""Every key of a pre-training config with its default, and the ':variant' grammar.

The defaults are those of MoCo v3 + RePre on ImageNet; the other files say only what differs. Values are plain:
epochs, rates per 256 images, fractions. What follows from them is worked out in repre_jax/core/schedules.py.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict, config_dict

from configs import embedded
from repre_jax.core.errors import UnknownVariant, UserError

FROZEN_PATCHES = ("^encoder/patch_embed/", "lr_scale", 0.0)  # moco-v3 vits.py:49-51, --stop-grad-conv1
UNDECAYED = ("/(bias|scale)$", "weight_decay", 0.0)  # tensors of one axis (dino utils.py:632-643)


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.task = "pretrain"  # what main.py runs
    config.seed = 0  # of the parameters, the record order and every random draw
    config.batch_size = 4096  # records a step, over all devices; 0: as many as fit into their memory
    config.accumulate = 1  # microbatches of a batch, one after another: negatives and BatchNorm see one of them
    config.shard_state = False  # True: parameters, target and optimiser state split over the devices (ZeRO), not copied
    config.epochs = 300.0  # passes over the training split
    config.total_steps = config_dict.placeholder(int)  # instead of epochs; warm-up keeps its share
    config.dtype = "bfloat16"  # of matrix products; parameters, norms, softmax and losses stay float32
    config.gradient_reduction = config_dict.placeholder(str)  # 'float32': between devices; else in the products' dtype
    config.log_every = 50  # steps between two lines of the log
    config.tensorboard = True  # write event files to the workdir's folder tensorboard
    config.wandb = config_dict.placeholder(str)  # project of Weights & Biases that the run is logged to, if installed
    config.collapse_patience = 20  # logged steps in a row that look like a collapse before a warning says so
    config.stop_after_skipped = 100  # steps in a row whose loss or gradient is not finite before the run ends
    config.compile_cache = True  # keep compiled programs in ~/.cache/repre_jax; $JAX_COMPILATION_CACHE_DIR goes before
    config.deterministic = False  # True: only GPU kernels that repeat to the bit, at some cost in speed
    config.init_from = config_dict.placeholder(str)  # a run's folder or a file of weights, which a new run starts with
    config.may_change = ()  # keys ('optim.lr', 'optim' for all of them) that may differ from those of the run so far

    config.data = ConfigDict()
    config.data.name = "imagenet2012"  # a TFDS name prepared as ArrayRecord, folder:PATH or 'digits'
    config.data.dir = config_dict.placeholder(str)  # where data sets lie; else $TFDS_DATA_DIR, else TFDS's default
    config.data.train_split = "train"  # TFDS's split syntax
    config.data.test_split = config_dict.placeholder(str)  # else 'validation' where there is one, else 'test'
    config.data.image_size = (224, 224)  # height, width of a view
    config.data.test_crop = 0.875  # central part of a test image that is kept (224 of 256)
    config.data.channels = 3  # of an image: 3 (RGB), 1 (grey) or as many as the images have
    config.data.mean = config_dict.placeholder(tuple)  # per channel, of pixels in 0..1; else as `prepare` measured, or
    config.data.std = config_dict.placeholder(tuple)  # ImageNet's
    config.data.value_range = config_dict.placeholder(tuple)  # (low, high) of more than 8 bits; else as measured
    config.data.max_unreadable = 0.01  # share of records that may be unreadable, and are replaced, before the run ends
    config.data.workers = 8  # processes that decode and crop; 0: threads of the main process

    config.augment = ConfigDict()  # recipes of MoCo v3 for ViT (moco-v3 main_moco.py:262-285)
    config.augment.crop_scale = (0.08, 1.0)  # area of a crop, as a fraction of the image
    config.augment.crop_ratio = (3 / 4, 4 / 3)  # width / height of a crop
    config.augment.interpolation = "bilinear"  # of crops that are enlarged, or 'bicubic'
    config.augment.jitter = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
    config.augment.colours = "torchvision"  # whose contrast and saturation, or 'tensorflow', as SimCLR's
    config.augment.jitter_probability = 0.8
    config.augment.grey_probability = 0.2
    config.augment.blur_probability = (1.0, 0.1)  # view 1, view 2 and, where there are any, the local views
    config.augment.blur_sigma = (0.1, 2.0)  # pixels
    config.augment.solarize_probability = (0.0, 0.2)  # view 1, view 2 and, where there are any, the local views
    config.augment.flip_probability = 0.5
    config.augment.local_views = 0  # smaller views of smaller parts, which DINO's student sees beside the two
    config.augment.local_size = (96, 96)  # height, width of a local view
    config.augment.local_scale = (0.05, 0.4)  # area of its crop, as a fraction of the image

    config.encoder = ConfigDict()
    config.encoder.name = "vit_s"  # vit_ti, vit_s, vit_b, vit_l, swin_t, swin_s or swin_b
    config.encoder.variant = "moco_v3"  # of a ViT, its positions, heads and initialisation: or 'sincos', 'deit', 'dino'
    config.encoder.drop_path = 0.0  # of the online encoder's last block, rising to it from 0 (moco-v3 passes none)
    config.encoder.remat = False  # True: save memory by computing each block twice
    config.encoder.remat_mlp = False  # True: save some by computing the GELU of each block twice, and nothing else
    config.encoder.attention = (
        "auto"  # the fastest at the start: 'xla', 'cudnn' (ViT, GPU, bfloat16), 'pallas' (GPU, TPU)
    )
    config.encoder.patch = config_dict.placeholder(int)  # side of a patch in pixels; else 16 for ViT, 4 for Swin
    config.encoder.pyramid_levels = config_dict.placeholder(
        int
    )  # ViT: K of RePre section 3.2, else 4; Swin: its stages
    config.encoder.pyramid_blocks = config_dict.placeholder(tuple)  # a ViT's, from 1; else spread evenly
    config.encoder.class_token = config_dict.placeholder(bool)  # of a ViT: False leaves it out, else True
    config.encoder.width = config_dict.placeholder(int)  # width, depth, heads, window: else what the name stands for
    config.encoder.depth = config_dict.placeholder(tuple)  # blocks; for Swin one number a stage
    config.encoder.heads = config_dict.placeholder(tuple)  # likewise
    config.encoder.window = config_dict.placeholder(int)  # Swin's, in patches

    config.framework = ConfigDict()  # the keys depend on the framework; a config file of another has its own
    config.framework.name = "moco_v3"
    config.framework.hidden = 4096  # hidden width of projector and predictor
    config.framework.out = 256  # width of the embedding
    config.framework.temperature = 0.2
    config.framework.momentum = 0.99  # of the target at the start; a half cosine takes it to
    config.framework.momentum_end = 1.0

    config.repre = ConfigDict()
    config.repre.enabled = True  # False: the contrastive baseline
    config.repre.preset = "paper"  # widths: the text's; or 'light': with 1 or 2 conv layers at most 4 % of the step
    config.repre.single = False  # True: decode the last feature alone (Table 4)
    config.repre.operator = "conv"  # of fusion layers, or 'transformer' (Table 5)
    config.repre.fusion_layers = 2  # in each decoder block (Table 5)
    config.repre.views = 1  # of the two, how many are reconstructed (Algorithm 1 has the first)
    config.repre.weighting_lr_scale = 1.0  # learning rate of the two log-variances, relative to the others
    config.repre.fixed_weights = config_dict.placeholder(tuple)  # (contrastive, reconstruction) instead of learned ones

    config.optim = ConfigDict()  # AdamW (moco-v3 main_moco.py:229-230, CONFIG.md:109-113)
    config.optim.name = "adamw"  # or 'lars', 'sgd'
    config.optim.schedule = "moco_v3"  # whose course of the rate: or 'moby', 'dino', 'simsiam', see core/schedules.py
    config.optim.lr = 1.5e-4  # per 256 images
    config.optim.lr_start = 0.0  # where warm-up begins; absolute, but per 256 images with schedule 'moby'
    config.optim.lr_end = 0.0  # likewise
    config.optim.warmup_epochs = 40.0
    config.optim.warmup_steps = config_dict.placeholder(int)  # instead of warmup_epochs
    config.optim.power = config_dict.placeholder(float)  # of schedule 'poly'; else 0.9
    config.optim.decay_epochs = config_dict.placeholder(tuple)  # of schedule 'step': where the rate falls
    config.optim.decay_factor = config_dict.placeholder(float)  # of schedule 'step': to which fraction; else 0.1
    config.optim.weight_decay = 0.1
    config.optim.weight_decay_end = config_dict.placeholder(float)  # at the end, along a half cosine; else the same
    config.optim.b1 = 0.9  # b1, b2, eps: AdamW's
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.momentum = 0.9  # of LARS and SGD
    config.optim.trust_coefficient = 1e-3  # LARS's
    config.optim.clip_norm = config_dict.placeholder(float)  # largest norm of the gradients; else they are not clipped
    config.optim.clip_each = False  # True: each tensor by its own norm, not all together
    # Exceptions: (pattern found in a parameter's path, property, value). Properties (core/optim.py): lr_scale (0
    # freezes), constant_lr, frozen_epochs, weight_decay, trust_ratio, clip.
    config.optim.rules = (FROZEN_PATCHES,)

    config.knn = ConfigDict()  # DINO's vote, during training and at the end
    config.knn.times = 10  # measurements over the run, evenly spaced
    config.knn.k = 20
    config.knn.train_records = 51_200  # at most, evenly spaced over the split, as those of test are
    config.knn.test_records = 10_240
    config.knn.hog = False  # True: at the end also of histograms of oriented gradients, of images of 24 to 96 pixels

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps
    config.checkpoint.keep = 2  # newest checkpoints that stay
    config.checkpoint.keep_every = config_dict.placeholder(int)  # steps; those of its multiples stay, too
    config.checkpoint.best = True  # keep the one with the best k-NN, or without labels the best effective rank, too

    config.distributed = ConfigDict()  # many processes; the first three are found under srun, mpirun and on TPU pods
    config.distributed.coordinator = config_dict.placeholder(str)  # HOST:PORT, a free port of process 0's host
    config.distributed.processes = config_dict.placeholder(int)  # how many there are
    config.distributed.process = config_dict.placeholder(int)  # which one this is, from 0
    config.distributed.timeout = 300  # seconds that they wait for each other at the start
    config.distributed.step_timeout = 1800  # seconds that a step, an evaluation or a save may take; 0: for ever
    return config


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
EMBEDDED = {"digits": embedded.digits, "scenes": embedded.scenes, "scenes_dense": embedded.scenes_dense}
VARIANTS = EMBEDDED | {"baseline": baseline} | DECODERS | {"tiny": embedded.tiny}
NUMBERS = ("epochs", "batch_size", "total_steps", "seed")  # variants of the form epochs=600


def with_variants(config: ConfigDict, variants: str) -> ConfigDict:
    """Applies 'digits,baseline' and the like, in the order of VARIANTS, then 'epochs=600' and the like.

    What digits and tiny set for one framework alone stands in its file in repre_jax/frameworks.
    Raises UserError for unknown ones, and for those that exclude each other.
    """
    names = [name.strip() for name in variants.split(",") if name.strip()]
    given = [name.split("=", 1) for name in names if "=" in name]
    numbers = dict(given)
    names = [name for name in names if "=" not in name]
    unknown = [name for name in names if name not in VARIANTS] + [f"{n}=" for n in numbers if n not in NUMBERS]
    if unknown:
        raise UnknownVariant(unknown[0], VARIANTS, [f"{name}=NUMBER" for name in NUMBERS])
    if len(numbers) < len(given):
        raise UserError(
            f"Variants {', '.join('='.join(pair) for pair in given)}: one name twice.\n  change:   keep one"
        )
    for group in (EMBEDDED, FUSIONS):
        chosen = [name for name in names if name in group]
        if len(set(chosen)) > 1:
            raise UserError(f"Variants {' and '.join(chosen)} exclude each other.\n  change:   keep one of them")
    if "baseline" in names and set(names) & DECODERS.keys():
        raise UserError("Variant baseline has no decoder, so that no variant of the decoder goes with it.")
    for name, change in VARIANTS.items():
        if name in names:
            change(config)
    if "epochs" in numbers:
        config.total_steps = None
    for name, text in numbers.items():
        config[name] = _number(name, text)
    return config


def _number(name: str, text: str) -> float | int:
    kind, wanted = (float, "number") if name == "epochs" else (int, "whole number")
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"Variant {name}={text}.\n  expected: a {wanted}, as in {name}=600") from None
