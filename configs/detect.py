"""Detection and instance segmentation: Mask R-CNN on a trained Swin or ViT, all of it trained on.

python main.py --config configs/detect.py --config.init_from=RUN                 COCO 2017, 12 epochs, multi-scale
python main.py --config configs/detect.py:single_scale --config.init_from=RUN    800 / 1333 only
python main.py --config configs/detect.py:3x --config.init_from=RUN              36 epochs
python main.py --config configs/detect.py:boxes --config.init_from=RUN           Faster R-CNN: boxes, no masks
python main.py --config configs/detect.py:scenes --config.init_from=RUN          two processor cores
python main.py --config configs/detect.py --config.evaluate=DETECTOR             measures a run of this, trains nothing

Table 2 of the paper: Swin-T by MoBY 43.6 (boxes) and 39.6 (masks), 44.8 and 40.3 with RePre. The paper says 800 / 1333,
but its baselines are MoBY's of SwinOD's multi-scale recipe, which is the default here
(SwinOD configs/swin/mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco.py); mmdetection's single scale is
worth a point less. A ViT reads by ViTDet's simple feature pyramid, and attends to the whole image.
"""

from ml_collections import ConfigDict, config_dict

from configs import base_evaluation

COCO = "coco_instances/2017"
PER_256 = 256 / 16  # the rate is SwinOD's for batches of 16
# SwinOD's: neither norms nor the tables of positions decay; biases do.
NO_DECAY = ("norm|bias_table|pos_embed", "weight_decay", 0.0)
OF_PROTOCOL = (("encoder", "drop_path"),)  # beside base_evaluation.PUBLISHED


def multiscale(config: ConfigDict) -> None:
    """SwinOD's augmentation: sizes of 480 to 800, half of the images cropped before."""


def single_scale(config: ConfigDict) -> None:
    """mmdetection's: each image as it is tested, or its mirror image; drop path 0.2 and 1,000 steps of warm-up
    (configs/swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py)."""
    config.detect.shorts = (800,)
    config.detect.crop = 0.0
    config.detect.flip_last = True
    config.encoder.drop_path = 0.2
    config.optim.warmup_steps = 1000


def three_times(config: ConfigDict) -> None:
    """SwinOD's other length, with its drop path of 0.2: three times as long, ending at a hundredth of the rate."""
    config.epochs *= 3
    config.optim.decay_epochs = (config.epochs * 3 / 4, config.epochs * 11 / 12)
    config.evaluations *= 3
    config.encoder.drop_path = 0.2 if config.encoder.drop_path else 0.0


def scratch(config: ConfigDict) -> None:
    """From random weights: what the pre-training is worth."""
    config.network = "untrained"


def boxes(config: ConfigDict) -> None:
    """Faster R-CNN: no mask head; data sets of boxes will do."""
    config.detect.masks = False


def scenes(config: ConfigDict) -> None:
    """Emoji on photographs, 96 x 128, for an encoder trained on the images of scenes: 5 minutes of a processor,
    4.6 to 6.4 in six runs (benchmarks/detection_gain.txt).

    Made small for that, at ten times the recipe's rate; tried once, on train[:80%] measured by train[80%:], seed 0. AP
    is of at most 20 detections an image, which half of the images have."""
    config.data.name = "scenes/dense"
    config.data.test_split = "test"
    config.data.workers = 0
    detect = config.detect
    detect.slots = 16
    detect.width = 32
    detect.hidden = 128
    detect.shorts = (96,)
    detect.longest = 128
    detect.crop = 0.0
    detect.test_short = 96
    detect.test_longest = 128
    detect.anchors = 64
    detect.anchor_positives = 32
    detect.regions = 32
    detect.region_positives = 8
    detect.per_level = 200
    detect.proposals = 50
    detect.test_per_level = 200
    detect.test_proposals = 50
    detect.test_detections = 20  # six objects an image, or a heap; masks of 100 took most of a measurement
    detect.test_candidates = 350  # all that there are of 7 classes
    config.encoder.drop_path = 0.0
    config.batch_size = 8
    length = config.epochs / 12.0  # three with 3x
    config.epochs = 1.8 * length
    config.optim.lr = 1e-3 * 256 / config.batch_size
    config.optim.lr_start = 1e-6
    config.optim.warmup_steps = 30
    config.optim.decay_epochs = (1.3 * length, 1.7 * length)
    config.evaluations = 1
    config.log_every = 50
    config.checkpoint.every = 250


def tiny(config: ConfigDict) -> None:
    """For smoke tests; in place of COCO, which few have at hand, with the images of scenes."""
    if config.data.name == COCO:
        scenes(config)
    config.detect.width = 16
    config.detect.hidden = 32
    config.batch_size = 2
    config.total_steps = 4
    config.optim.warmup_steps = 1
    config.log_every = 2
    config.evaluations = 1
    config.checkpoint.every = 2


SCALES = {"multiscale": multiscale, "single_scale": single_scale}
PROTOCOL = {"3x": three_times, "scratch": scratch, "boxes": boxes}


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    base_evaluation.add_training(config)
    config.task = "detect"
    # A run of this task: measure it, train nothing. Keys marked * are the run's unless a variant or the command line
    # sets them, and result.json says which differ; others cannot be changed.
    config.evaluate = config_dict.placeholder(str)
    config.accumulate = 1  # microbatches that a batch is computed in; each divides its losses by what it holds itself
    config.batch_size = 16
    config.epochs = 12.0
    config.evaluations = 12

    data = config.data
    for key in ("labels", "draw", "test_crop", "test_interpolation"):
        del data[key]
    data.name = COCO  # * or scenes/dense, or what `prepare coco` made of one's own
    data.train_split = "train"  # *
    data.test_split = config_dict.placeholder(str)  # * else 'validation' where there is one, else 'test'
    data.image_size = config_dict.placeholder(tuple)  # that a ViT's learned positions belong to, else the run's

    detect = config.detect = ConfigDict()
    detect.masks = True  # False: boxes alone, Faster R-CNN
    detect.slots = 100  # objects of an image that are trained on; of more so many are drawn
    detect.width = 256  # channels of the pyramid, and of the heads' convolutions
    detect.hidden = 1024  # width of the box head
    detect.shorts = tuple(range(480, 801, 32))  # what the shorter side of a training image may become
    detect.longest = 1333  # of the longer side; with the largest of shorts, rounded up to 32, the canvas
    detect.flip_last = False  # mirror images after they were resized
    detect.crop = 0.5  # how often an image is, before that,
    detect.crop_shorts = (400, 500, 600)  # resized to one of these
    detect.crop_sides = (384, 600)  # and cropped to sides from here to there
    detect.anchors = 256  # sampled of an image in a step,
    detect.anchor_positives = 128  # at most so many of them an object's
    detect.regions = 512  # sampled for the box head,
    detect.region_positives = 128  # at most so many of them an object's; these are the mask head's
    detect.per_level = 2000  # best anchors of each level in training, of which
    detect.proposals = 1000  # the best become proposals
    detect.test_short = 800  # *
    detect.test_longest = 1333  # *
    detect.test_per_level = 1000  # *
    detect.test_proposals = 1000  # *
    detect.test_score = 0.05  # * that a detection must exceed
    detect.test_threshold = 0.5  # * the IoU above which a detection suppresses a worse one of its class
    detect.test_detections = 100  # * of an image
    detect.test_one_class = config_dict.placeholder(bool)  # * AP without classes; else of scenes/dense's unseen alone
    detect.test_candidates = 5000  # * pairs of a region and a class that are compared; result.json has the overflow

    augment = config.augment
    for key in ("crop_scale", "crop_ratio", "interpolation"):
        del augment[key]
    config.encoder.drop_path = 0.1
    config.optim.schedule = "step"
    config.optim.lr = 1e-4 * PER_256
    config.optim.lr_start = 1e-7  # a thousandth of the rate at batches of 16; it does not go with the batch, as lr does
    config.optim.warmup_steps = 500
    config.optim.decay_epochs = (8.0, 11.0)
    config.optim.weight_decay = 0.05
    config.optim.rules = (NO_DECAY,)
    config.typed = ()  # which keys the command line sets, as main.py notes; neither this nor `usual` is stored
    usual = config.to_dict()
    known = SCALES | PROTOCOL | {"scenes": scenes, "tiny": tiny}
    published = (*SCALES, *PROTOCOL)
    config = base_evaluation.with_variants(config, variants, known, tuple(SCALES), published, OF_PROTOCOL)
    config.usual = ConfigDict(usual)  # what nobody has set
    return config
