"""Keys that every evaluation of a trained encoder has, with their defaults, and the grammar of its variants.

  python main.py --config configs/knn.py --config.init_from=RUN          a run, whose data and encoder are taken over
  python main.py --config configs/knn.py --config.init_from=FILE --config.data.name=imagenet2012 \
      --config.encoder.name=vit_s                                        weights in timm's names, or a framework's
"""

from collections.abc import Callable, Collection, Mapping

from ml_collections import ConfigDict, config_dict

from repre_jax.core.errors import UnknownVariant, UserError

# What makes up a published protocol or recipe: keys, groups of them, and single keys of other groups.
PUBLISHED_OF_GROUPS = (("encoder", "drop_path"), ("data", "test_interpolation"))
PUBLISHED = ("batch_size", "epochs", "total_steps", "augment", "optim", "linear", "finetune", "segment", "detect")


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of whatever is drawn: a head's first weights, crops, which labels are used
    config.init_from = config_dict.placeholder(str)  # a run's folder, or a file of weights
    config.step = config_dict.placeholder(int)  # of the run's checkpoint; else the newest
    config.network = config_dict.placeholder(str)  # 'online', 'target' or 'untrained'; else what the authors evaluate
    config.feature = config_dict.placeholder(str)  # 'pooled', 'cls', 'cls4', 'mean', 'cls+mean'; else the protocol's
    config.batch_size = 1024  # images a step, over all devices
    config.dtype = config_dict.placeholder(str)  # of matrix products; else the run's, float32 for a file without a card
    config.compile_cache = True  # keep compiled programs in ~/.cache/repre_jax; $JAX_COMPILATION_CACHE_DIR goes before
    config.deterministic = False  # True: only GPU kernels that repeat to the bit, at some cost in speed
    config.may_change = ()  # keys ('optim.lr', 'optim' for all of them) that may differ from those of the start before

    config.data = ConfigDict()  # what is not set is the run's
    config.data.name = config_dict.placeholder(str)  # a TFDS name prepared as ArrayRecord, folder:PATH or 'digits'
    config.data.dir = config_dict.placeholder(str)  # where data sets lie; else $TFDS_DATA_DIR, else TFDS's default
    config.data.train_split = config_dict.placeholder(str)  # TFDS's split syntax
    config.data.test_split = config_dict.placeholder(str)  # else 'validation' where there is one, else 'test'
    config.data.image_size = config_dict.placeholder(tuple)  # height, width; of a file 224 x 224
    config.data.test_crop = config_dict.placeholder(float)  # central part of a test image that is kept; of a file 0.875
    config.data.test_interpolation = "bicubic"  # of test images, or 'bilinear'
    config.data.channels = config_dict.placeholder(int)  # of an image; of a file 3
    config.data.mean = config_dict.placeholder(tuple)  # per channel, of pixels in 0..1; else as in pre-training
    config.data.std = config_dict.placeholder(tuple)
    config.data.value_range = config_dict.placeholder(tuple)  # (low, high) of more than 8 bits; else the run's
    config.data.max_unreadable = 0.01  # share of records that may be unreadable: left out, in training replaced
    config.data.workers = 8  # processes that decode and crop; 0: threads of the main process
    config.data.labels = 1.0  # share of the training records that are used, as many of each class, at least one
    config.data.draw = 0  # which of the possible choices of these

    config.encoder = ConfigDict()  # a run brings its own; for a file without a card these say what it holds
    config.encoder.name = config_dict.placeholder(str)  # vit_ti, vit_s, vit_b, vit_l, swin_t, swin_s or swin_b
    config.encoder.variant = config_dict.placeholder(str)  # of a ViT: 'deit' unless set, 'dino', 'moco_v3' or 'sincos'
    config.encoder.patch = config_dict.placeholder(int)
    config.encoder.width = config_dict.placeholder(int)
    config.encoder.depth = config_dict.placeholder(tuple)
    config.encoder.heads = config_dict.placeholder(tuple)
    config.encoder.window = config_dict.placeholder(int)
    config.encoder.pyramid_levels = config_dict.placeholder(int)
    config.encoder.pyramid_blocks = config_dict.placeholder(tuple)
    config.encoder.class_token = config_dict.placeholder(bool)
    config.encoder.drop_path = 0.0
    config.encoder.remat = False
    config.encoder.remat_mlp = False
    config.encoder.attention = "xla"  # or 'cudnn' (a ViT on an NVIDIA GPU, bfloat16), 'pallas' (GPU, TPU)

    config.distributed = ConfigDict()  # as in configs/base.py
    config.distributed.coordinator = config_dict.placeholder(str)
    config.distributed.processes = config_dict.placeholder(int)
    config.distributed.process = config_dict.placeholder(int)
    config.distributed.timeout = 300
    config.distributed.step_timeout = 1800
    return config


def add_training(config: ConfigDict) -> None:
    """Keys of evaluations that train something, as in configs/base.py."""
    config.epochs = 100.0
    config.total_steps = config_dict.placeholder(int)  # instead of epochs; warm-up keeps its share
    config.log_every = 50
    config.tensorboard = True
    config.wandb = config_dict.placeholder(str)
    config.stop_after_skipped = 100
    config.evaluations = 10  # on the test images, evenly spaced over the run

    config.encoder.attention = "auto"  # the fastest at the start, as in configs/base.py

    config.augment = ConfigDict()
    config.augment.crop_scale = (0.08, 1.0)
    config.augment.crop_ratio = (3 / 4, 4 / 3)
    config.augment.interpolation = "bilinear"
    config.augment.flip_probability = 0.5

    config.optim = ConfigDict()
    config.optim.name = "adamw"
    config.optim.schedule = "moco_v3"
    config.optim.lr = 1e-3  # per 256 images
    config.optim.lr_start = 0.0
    config.optim.lr_end = 0.0
    config.optim.warmup_epochs = 0.0
    config.optim.warmup_steps = config_dict.placeholder(int)  # instead of warmup_epochs, whatever total_steps is
    config.optim.power = config_dict.placeholder(float)  # of schedule 'poly'; else 0.9
    config.optim.decay_epochs = config_dict.placeholder(tuple)  # of schedule 'step': where the rate falls,
    config.optim.decay_factor = config_dict.placeholder(float)  # by this factor; else 0.1
    config.optim.weight_decay = 0.0
    config.optim.weight_decay_end = config_dict.placeholder(float)
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.trust_coefficient = 1e-3
    config.optim.clip_norm = config_dict.placeholder(float)
    config.optim.clip_each = False

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps
    config.checkpoint.keep = 1
    config.checkpoint.keep_every = config_dict.placeholder(int)
    config.checkpoint.best = False


def embedded_images(config: ConfigDict) -> None:
    """For the embedded data sets: digits are upright, and few processor cores read them."""
    config.batch_size = 64
    config.data.workers = 0
    config.augment.crop_scale = (0.7, 1.0)
    config.augment.interpolation = "bilinear"
    config.augment.flip_probability = 0.0


def tiny_run(config: ConfigDict) -> None:
    """For smoke tests."""
    embedded_images(config)
    config.batch_size = 16
    config.total_steps = 8
    config.log_every = 2
    config.evaluations = 2
    config.checkpoint.every = 2


def with_variants(
    config: ConfigDict,
    variants: str,
    known: Mapping[str, Callable[[ConfigDict], None]],
    one_of: Collection[str] = (),
    published: Collection[str] = (),
    published_of_groups: Collection[tuple[str, str]] = PUBLISHED_OF_GROUPS,
) -> ConfigDict:
    """Applies those of `known` that 'cached,tiny' and the like name, in the order of `known`.

    one_of: those that exclude each other. published: those that make up what config.published then keeps of the
    protocol or recipe, so that a result can name what was changed of it; with published_of_groups, keys of groups.
    Raises UserError for unknown ones, and for two of `one_of`.
    """
    names = [name.strip() for name in variants.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownVariant(unknown[0], known)
    chosen = [name for name in names if name in one_of]
    if len(set(chosen)) > 1:
        raise UserError(f"Variants {' and '.join(chosen)} exclude each other.\n  change:   keep one of them")
    for name, change in known.items():
        if name in names and name in published:
            change(config)
    if published:
        settings = config.to_dict()
        config.published = ConfigDict({key: settings[key] for key in PUBLISHED if key in settings})
        for group, key in published_of_groups:
            config.published[group] = ConfigDict({key: settings[group][key]})
    for name, change in known.items():
        if name in names and name not in published:
            change(config)
    return config
