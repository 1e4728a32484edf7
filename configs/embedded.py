"""The embedded data sets in a pre-training config: the variants digits, scenes and tiny."""

from ml_collections import ConfigDict

from repre_jax.frameworks import FRAMEWORKS
from repre_jax.models.encoders import SWINS


def digits_data(config: ConfigDict) -> None:
    """scikit-learn's digits instead of ImageNet: grey, upright, centred, so no flip, hue, solarize or tight crop."""
    config.data.name = "digits"
    config.data.test_crop = 1.0
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.data.workers = 0
    config.augment.crop_scale = (0.7, 1.0)
    config.augment.interpolation = "bilinear"  # of crops that are enlarged, or 'bicubic'
    config.augment.jitter = (0.4, 0.4, 0.0, 0.0)
    config.augment.grey_probability = 0.0
    config.augment.blur_probability = tuple(0.0 for _ in config.augment.blur_probability)
    config.augment.solarize_probability = tuple(0.0 for _ in config.augment.solarize_probability)
    config.augment.flip_probability = 0.0
    config.augment.local_scale = (0.3, 0.7)


def digits(config: ConfigDict) -> None:
    """The embedded digits and an encoder that two CPU cores train in minutes. Tuned on this data set, seed 0."""
    digits_data(config)
    config.data.image_size = (16, 16)
    config.dtype = "float32"
    if config.encoder.name in SWINS:
        config.encoder.update(width=32, depth=(1, 2, 1), heads=(2, 4, 8), patch=2, window=4)
    else:
        config.encoder.update(width=64, depth=(4,), heads=(4,), patch=4)
    config.augment.local_views = min(config.augment.local_views, 2)
    config.augment.local_size = (8, 8)
    config.batch_size = 64
    config.epochs = 100.0
    config.optim.lr = 1.2e-2
    config.optim.warmup_epochs = 4.0
    config.log_every = 50
    config.checkpoint.every = 200
    config.update_from_flattened_dict(FRAMEWORKS[config.framework.name].digits)


def scenes(config: ConfigDict) -> None:
    """Emoji on photographs, all of the framework's augmentations, and an encoder that two CPU cores train in minutes.

    Tuned on train[:80%] and train[80%:], seed 0. Colours tell most of an emoji, so hue, grey, blur and solarize are
    rarer or weaker than for photographs."""
    config.data.name = "scenes/objects"
    config.data.image_size = (48, 48)
    config.data.test_crop = 1.0
    config.data.workers = 0
    config.dtype = "float32"
    if config.encoder.name in SWINS:
        config.encoder.update(width=32, depth=(1, 2, 2), heads=(2, 4, 8), patch=4, window=6)
    else:
        config.encoder.update(width=64, depth=(4,), heads=(4,), patch=8)
    augment = config.augment
    augment.crop_scale = (max(augment.crop_scale[0], 0.4), 1.0)
    augment.jitter = (0.4, 0.4, 0.2, 0.02)
    augment.grey_probability = min(augment.grey_probability, 0.05)
    augment.blur_probability = tuple(min(each, 0.5) for each in augment.blur_probability)
    augment.blur_sigma = (0.1, 1.0)  # for views of 48 pixels in place of 224
    augment.solarize_probability = tuple(min(each, 0.05) for each in augment.solarize_probability)
    augment.local_views = min(augment.local_views, 2)
    augment.local_size = (24, 24)
    augment.local_scale = (0.15, 0.5)
    config.knn.hog = True
    config.batch_size = 64
    config.epochs = 5.0
    config.optim.lr = 1.2e-2
    config.optim.warmup_epochs = 1.0
    config.log_every = 50
    config.checkpoint.every = 200
    config.update_from_flattened_dict(FRAMEWORKS[config.framework.name].digits | {"epochs": config.epochs})


def scenes_dense(config: ConfigDict) -> None:
    """The images of scenes/dense without labels, and patches of 4 pixels for what is then asked of each pixel. Of 8
    pixels a step costs a fifth, but the best label map that they can tell apart has mIoU 0.64, of 4 pixels 0.88. A Swin
    has four stages, as a detector reads. Two thirds of the steps of scenes, of a third of its images."""
    scenes(config)
    config.data.name = "scenes/unlabelled"
    config.epochs = 10.0
    config.optim.warmup_epochs = 2.0
    config.augment.crop_scale = (max(config.augment.crop_scale[0], 0.2), 1.0)
    config.knn.hog = False
    if config.encoder.name in SWINS:
        config.encoder.update(depth=(1, 1, 2, 1), heads=(2, 4, 8, 16))
    else:
        config.encoder.patch = 4


def tiny(config: ConfigDict) -> None:
    """The smallest run that goes through everything, for smoke tests."""
    if config.data.name == "imagenet2012":
        digits_data(config)
    config.data.image_size = (32, 32)
    config.data.workers = 0
    config.dtype = "float32"
    if config.encoder.name in SWINS:
        config.encoder.update(width=16, depth=(1, 1, 1, 1), heads=(1, 2, 4, 8), patch=4, window=4)
    else:
        config.encoder.update(width=32, depth=(2,), heads=(4,), patch=8, pyramid_levels=2)
    config.augment.local_views = min(config.augment.local_views, 2)
    config.augment.local_size = (16, 16)
    config.batch_size = 16
    config.total_steps = 8
    config.log_every = 2
    config.checkpoint.every = 2
    config.knn.times = 2
    config.knn.train_records = 256
    config.knn.test_records = 64
    config.update_from_flattened_dict(FRAMEWORKS[config.framework.name].tiny)
