"""Semantic segmentation: SETR's heads on a trained ViT, Semantic FPN on a Swin, or a linear head on a frozen encoder.

python main.py --config configs/segment.py --config.init_from=RUN               Cityscapes, SETR's Naive head
python main.py --config configs/segment.py:pup --config.init_from=RUN           its PUP head; mla, linear alike
python main.py --config configs/segment.py:fpn --config.init_from=RUN           of a Swin
python main.py --config configs/segment.py:scenes --config.init_from=RUN        two processor cores, in minutes
python main.py --config configs/segment.py --config.evaluate=SEGMENTED          measures a run of this, trains nothing

The paper (Table 3) names neither head, steps, crop nor seeds, only SETR's training config. Chosen here: Naive, whose
auxiliary heads read the blocks that RePre rebuilds from, 80,000 steps, crops of 768 (SETR
configs/SETR/SETR_Naive_DeiT_768x768_80k_cityscapes_bs_8.py). Batch 8 is part of it: 4 cost its authors a point.
Nor does it say whether MoCo v3's patch projection, frozen in pre-training, is trained: here it is, as all the encoder.
"""

from ml_collections import ConfigDict, config_dict

from configs import base_evaluation

CITYSCAPES = "cityscapes/semantic_segmentation"
PER_256 = 256 / 8  # rates are SETR's for batches of 8
# SETR multiplies the rate of what is called a head by ten, down to the same floor; a neck is a part of its encoder.
FASTER = ("^head/", "peak_scale", 10.0)
NECK = ("^head/neck/", "peak_scale", 1.0)
OF_PROTOCOL = (("encoder", "drop_path"), ("data", "image_size"))  # beside base_evaluation.PUBLISHED


def naive(config: ConfigDict) -> None:
    """SETR's Naive: a 1 x 1 layer; auxiliary heads after a quarter, a half and three quarters of the blocks."""


def pup(config: ConfigDict) -> None:
    """SETR's PUP: four 3 x 3 layers, enlarging in between; four auxiliary heads."""
    config.segment.head = "pup"


def mla(config: ConfigDict) -> None:
    """SETR's MLA: four blocks' maps, added from deep to shallow; a fifth of the others' rate."""
    config.segment.head = "mla"
    config.optim.lr = 0.002 * PER_256
    config.optim.rules = (FASTER, NECK)


def fpn(config: ConfigDict) -> None:
    """Semantic FPN, for Swin. The rate is SETR's, not published for it."""
    config.segment.head = "fpn"
    config.optim.rules = (FASTER, NECK)


def linear(config: ConfigDict) -> None:
    """BatchNorm and a 1 x 1 convolution on the frozen encoder's last tokens: what can be read off them. Ours: SETR's
    recipe, at the rate of its heads."""
    config.segment.head = "linear"
    config.segment.frozen = True


def linear_pyramid(config: ConfigDict) -> None:
    """The same on all maps of the pyramid, side by side, as blocks leave them."""
    linear(config)
    config.segment.head = "linear_pyramid"


def scratch(config: ConfigDict) -> None:
    """From random weights: what the pre-training is worth."""
    config.network = "untrained"


def short(config: ConfigDict) -> None:
    """SETR's other length, 40,000 steps."""
    config.total_steps = 40_000
    config.epochs = 107.6


def multiscale(config: ConfigDict) -> None:
    """SETR's other test: the mean of the probabilities at six sizes, each with its mirror image."""
    config.segment.test_scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    config.segment.test_flip = True


def scenes(config: ConfigDict) -> None:
    """Emoji on photographs, 96 x 128, for an encoder trained on the images of scenes: 2 minutes of a processor with
    patches of 8 pixels (benchmarks/segmentation_gain.txt); with 4 not printed.

    Tuned a little, by hand, on train[:80%] measured by train[80%:], seed 0, with the encoder trained along. Colours are
    left as they are, unlike the recipe's: a choice that nothing was measured for."""
    config.data.name = "scenes/dense"
    config.data.test_split = "test"
    config.data.image_size = (48, 48)
    config.data.workers = 0
    config.segment.train_size = ()
    config.segment.ratios = (0.75, 1.5)
    config.segment.colours = False
    config.segment.test_size = ()
    config.segment.test_stride = (40, 40)
    config.batch_size = 16
    config.epochs = 5.0
    config.total_steps = None
    config.evaluations = 1
    config.log_every = 50
    config.checkpoint.every = 250


def tiny(config: ConfigDict) -> None:
    """For smoke tests; in place of Cityscapes, which few have at hand, with the images of scenes."""
    if config.data.name == CITYSCAPES:
        scenes(config)
    config.batch_size = 2
    config.total_steps = 4
    config.log_every = 2
    config.evaluations = 1
    config.checkpoint.every = 2


HEADS = {"naive": naive, "pup": pup, "mla": mla, "fpn": fpn, "linear": linear, "linear_pyramid": linear_pyramid}
PROTOCOL = {"scratch": scratch, "short": short, "multiscale": multiscale}


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    base_evaluation.add_training(config)
    config.task = "segment"
    # A run of this task: measure it, train nothing. Keys marked * are the run's unless a variant or the command line
    # sets them, and result.json says which differ; others cannot be changed.
    config.evaluate = config_dict.placeholder(str)
    config.accumulate = 1  # microbatches that a batch is computed in; each is normalised by its own statistics
    config.batch_size = 8
    config.total_steps = 80_000
    config.epochs = 215.1  # what these are of Cityscapes' 2,975 images

    data = config.data
    for key in ("labels", "draw", "test_crop", "test_interpolation"):
        del data[key]
    data.name = CITYSCAPES  # * or another data set with label maps, or folder:PATH
    data.train_split = "train"  # *
    data.test_split = config_dict.placeholder(str)  # * else 'validation' where there is one, else 'test'
    data.image_size = (768, 768)  # of crops, in training and of the windows in tests
    data.image_key = config_dict.placeholder(str)  # * of records that hold several images: which is meant
    data.label_map_key = config_dict.placeholder(str)  # *
    data.decoded_cache = config_dict.placeholder(str)  # a folder: training images are decoded once, into it
    data.num_classes = config_dict.placeholder(int)  # * where the data set does not tell
    data.first_value = 0  # * of label maps: class 0; lower ones are ignored, as ADE20K's 0 is with 1

    config.segment = ConfigDict()
    config.segment.head = "naive"
    config.segment.frozen = False  # True: only the head is trained
    config.segment.auxiliary_weight = 0.4  # of each auxiliary head's loss
    # Pixels that the loss is averaged over; 'labelled': without those ignored, in each microbatch by itself.
    config.segment.loss_over = "all"
    config.segment.train_size = (1025, 2049)  # height, width: images are resized to fit, times a ratio; (): their own
    config.segment.ratios = (0.5, 2.0)
    config.segment.largest_share = 0.75  # a crop with as much of one class is drawn again,
    config.segment.tries = 10  # so often
    config.segment.colours = True  # photometric distortion, of RGB
    config.segment.test_size = (1025, 2049)  # * SETR's, though the images are 1024 x 2048; (): their own
    config.segment.test_stride = (512, 512)  # * of the windows
    config.segment.test_scales = (1.0,)  # *
    config.segment.test_flip = False  # * also the mirror image

    augment = config.augment
    for key in ("crop_scale", "crop_ratio", "interpolation"):
        del augment[key]
    config.optim.name = "sgd"
    config.optim.schedule = "poly"
    config.optim.lr = 0.01 * PER_256
    config.optim.lr_end = 1e-4
    config.optim.rules = (FASTER,)
    config.typed = ()  # which keys the command line sets, as main.py notes; neither this nor `usual` is stored
    usual = config.to_dict()
    known = HEADS | PROTOCOL | {"scenes": scenes, "tiny": tiny}
    published = (*HEADS, *PROTOCOL)
    config = base_evaluation.with_variants(config, variants, known, tuple(HEADS), published, OF_PROTOCOL)
    config.usual = ConfigDict(usual)  # what nobody has set
    return config
