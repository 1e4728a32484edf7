"""Dense measures of a frozen encoder, without a network to train: what lines read off its patch tokens.

python main.py --config configs/dense_probe.py:scenes --config.init_from=RUN --workdir W     half a minute, two cores
python main.py --config configs/dense_probe.py --config.init_from=RUN --workdir W            Cityscapes

Of the last block alone and of all pyramid levels side by side: average precision of object or background, mean IoU of
the classes, the share of the variance of a patch's own pixels; and the effective rank. Beside each stands the same of
the encoder before its first step. RUN is of pre-training, or of configs/finetune.py: a supervised control.

docs/evaluation.md defines the measures. They were fixed on 2026-12-01, before any table was computed with them: nothing
here was chosen by test images.
"""

from ml_collections import ConfigDict, config_dict

from configs import base_evaluation


def scenes(config: ConfigDict) -> None:
    """Emoji on photographs, 96 x 128, for an encoder trained on the images of scenes. Two at once: with patches of 4
    pixels the attention of more is memory that the system hands a processor anew each time, at twice the cost."""
    config.batch_size = 2
    config.data.name = "scenes/dense"
    config.data.test_split = "test"
    config.data.image_size = (96, 128)
    config.dense_probe.background = (0,)


def tiny(config: ConfigDict) -> None:
    """For smoke tests; in place of Cityscapes, which few have at hand, with the images of scenes."""
    if config.data.name.startswith("cityscapes"):
        scenes(config)
    config.dense_probe.train_images = 12
    config.dense_probe.test_images = 8


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    config.task = "dense_probe"
    config.batch_size = 16
    del config.feature

    data = config.data
    for key in ("labels", "draw", "test_crop", "test_interpolation"):
        del data[key]
    data.name = "cityscapes/semantic_segmentation"  # or another data set with label maps, or folder:PATH
    data.train_split = "train"
    data.test_split = config_dict.placeholder(str)  # else 'validation' where there is one, else 'test'
    data.image_size = (768, 768)  # of the central part that is seen of each image, which is not resized
    data.image_key = config_dict.placeholder(str)  # of records that hold several images: which is meant
    data.label_map_key = config_dict.placeholder(str)
    data.num_classes = config_dict.placeholder(int)  # where the data set does not tell
    data.first_value = 0  # of label maps: class 0; lower ones are ignored, as ADE20K's 0 is with 1
    data.workers = 0

    config.dense_probe = ConfigDict()
    config.dense_probe.train_images = 200  # evenly spaced over the split, as are
    config.dense_probe.test_images = 200
    config.dense_probe.patches = 256  # of each image, at most, and evenly spaced too
    config.dense_probe.held_out = 0.2  # share of these training images that choose penalties
    config.dense_probe.background = tuple(range(11))  # classes that are no objects: Cityscapes' road to sky
    config.dense_probe.untrained = True  # beside it the encoder before its first step
    return base_evaluation.with_variants(config, variants, {"scenes": scenes, "tiny": tiny})
