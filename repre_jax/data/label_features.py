"""Which features of a TFDS data set are the image and its label map, and which classes the label map has.

TFDS's own data sets call them as they like; most tell by the kind of feature.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from repre_jax.data.prepared import NotReadable

IMAGES = ("image", "image_left")
MAPS = (
    *("label_map", "segmentation_label", "segmentation_mask", "segmentation", "annotation", "mask", "label", "labels"),
    *("semantic_label", "semantic"),
)
NAMES = ("file_name", "filename", "image_id", "image/filename", "id")  # what a record may be called by

Features = Mapping[str, tfds.features.FeatureConnector]


def find(features: Features, name: str, image: str | None = None, label_map: str | None = None) -> tuple[str, str]:
    """(Feature of the image, feature of the label map). image, label_map: as the user named them.

    Raises NotReadable where there is none, or nobody knows which of several it is.
    """
    features = dict(sorted(features.items()))  # TFDS reads them in another order each time
    maps = [key for key, each in features.items() if key != image and _is_map(each)]
    if label_map is None and set(maps) <= set(IMAGES) and not any(map(_is_picture, features.values())):
        maps = []  # grey images, and nothing else
    if not maps:  # PNGs whose channels are all the same
        maps = [key for key, each in features.items() if key in MAPS and _is_picture(each)]
    label_map = _chosen("label_map", label_map, maps, MAPS, features, name)
    images = [key for key, each in features.items() if key != label_map and _is_picture(each)]
    if not images:  # grey
        images = [key for key in features if key != label_map and _is_map(features[key])]
    return _chosen("image", image, images, IMAGES, features, name), label_map


def image_of(features: Features, name: str) -> str:
    """The feature of the image of a data set that may have label maps or not: else 'image'."""
    try:
        return find(features, name)[0]
    except NotReadable:
        return IMAGES[0]


def record_name(features: Features) -> str | None:
    """The feature that a record is called by, if there is one."""
    texts = (key for key in NAMES if isinstance(features.get(key), tfds.features.Text))
    numbers = (key for key in NAMES if isinstance(features.get(key), tfds.features.Scalar | tfds.features.Tensor))
    return next(texts, None) or next(numbers, None)


def class_names(label_map: tfds.features.FeatureConnector, metadata: Mapping | None) -> tuple[str, ...] | None:
    """Of a LabeledImage, which may know their names or only their number; of scenes/dense and others whose metadata
    list the categories of objects, these behind the background. None where the data set does not say."""
    if isinstance(label_map, tfds.features.LabeledImage) and label_map.num_classes:
        return tuple(map(str, label_map.names))
    try:
        return ("background", *(str(each["name"]) for each in (metadata or {})["categories"]))
    except (KeyError, TypeError):
        return None


def _is_map(feature: tfds.features.FeatureConnector) -> bool:
    """One whole number a pixel."""
    if isinstance(feature, tfds.features.LabeledImage):
        return True
    if not isinstance(feature, tfds.features.Tensor | tfds.features.Image) or feature.shape is None:
        return False
    whole, axes = np.issubdtype(feature.np_dtype, np.integer), len(feature.shape)
    return whole and (
        (axes == 3 and feature.shape[2] == 1) or (axes == 2 and isinstance(feature, tfds.features.Tensor))
    )


def _is_picture(feature: tfds.features.FeatureConnector) -> bool:
    kinds = (tfds.features.Image, tfds.features.Tensor)
    if not isinstance(feature, kinds) or isinstance(feature, tfds.features.LabeledImage) or feature.shape is None:
        return False
    return len(feature.shape) == 3 and feature.shape[2] != 1


def _chosen(
    what: str, asked: str | None, found: Sequence[str], usual: Sequence[str], features: Features, name: str
) -> str:
    words = {"image": "images", "label_map": "label maps"}[what]
    if asked is not None:
        if asked in features:
            return asked
        raise NotReadable(
            f"Data set {name} has no feature {asked!r}.\n"
            f"  expected: one of {', '.join(features)}\n"
            f"  change:   --config.data.{what}_key"
        )
    if len(found) == 1:
        return found[0]
    if known := [key for key in usual if key in found]:
        return known[0]
    if found:
        raise NotReadable(
            f"Data set {name} has several features that may be the {words}: {', '.join(found)}.\n"
            f"  change:   --config.data.{what}_key={found[0]}, or another of them"
        )
    raise NotReadable(
        f"Data set {name} has no {words}. Its features are {', '.join(features)}.\n"
        + (
            "  expected: a feature with a class for each pixel: a LabeledImage, or an Image or a Tensor with one\n"
            "            whole number a pixel\n"
            "  change:   --config.data.name to a data set of label maps, such as scenes/dense; or to folder:PATH, a\n"
            "            folder with images/ and labels/; or --config.data.label_map_key, if one of these is it"
            if what == "label_map"
            else f"  change:   --config.data.{what}_key, if one of these is it"
        )
    )
