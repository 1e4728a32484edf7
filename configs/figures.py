"""Figures of a trained encoder: keys that `python -m repre_jax.tools.figures KIND [RUN|FILE ...]` takes.

Which encoder, of which network and step, and which data: as in evaluations, see configs/base_evaluation.py.
"""

from ml_collections import ConfigDict, config_dict

from configs import base_evaluation


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    config.task = "figures"
    config.data.test_interpolation = "bilinear"  # as pre-training itself sees test images
    # segmentation: as in configs/segment.py
    config.data.image_key = config_dict.placeholder(str)
    config.data.label_map_key = config_dict.placeholder(str)
    config.data.num_classes = config_dict.placeholder(int)
    config.data.first_value = config_dict.placeholder(int)
    config.feature = "pooled"  # of tsne and neighbours
    config.batch_size = 256  # images through the encoder at once, over all devices
    config.figures = ConfigDict()
    config.figures.records = 6  # images that are shown; --records
    config.figures.score = 0.5  # detection: the least that a detection must have to be drawn
    config.figures.block = config_dict.placeholder(int)  # attention: of a ViT, which block, from 1; else the last
    config.figures.mass = 0.6  # attention: the share of it whose patches stand out (dino visualize_attention.py)
    config.figures.classes = 20  # tsne: at most, chosen at random
    config.figures.per_class = 50  # tsne: test images of each class, at most
    config.figures.k = 6  # neighbours of each image
    config.figures.bank = 51_200  # neighbours: training images that they are looked for among, at most, evenly spaced
    return base_evaluation.with_variants(config, variants, {})
