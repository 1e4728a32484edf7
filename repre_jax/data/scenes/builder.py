"""The data set scenes as TFDS writes it: one configuration for each of its three views.

scenes/objects      an emoji on a photograph, 48 x 48, with its class
scenes/dense        several emoji on a photograph, 96 x 128, with masks, boxes, classes and a label map
scenes/unlabelled   the images of scenes/dense alone
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import embedded, rle
from repre_jax.data.scenes import concepts, credit, dense_canvases, intact, object_canvases, packages
from repre_jax.system import terminal

NAME = "scenes"
OBJECTS, DENSE, UNLABELLED = CONFIGS = ("objects", "dense", "unlabelled")
VERSIONS: Mapping[str, str] = {OBJECTS: "3.0.0", DENSE: "2.0.0", UNLABELLED: "1.0.0"}
SHOWS = {
    OBJECTS: "One of twenty emoji on a crop of a photograph; 48 x 48 pixels, 20 classes.",
    DENSE: "Two to six emoji on a crop of a photograph, partly hidden, with masks, boxes and classes; 96 x 128 pixels. "
    "The split unseen shows, on the photographs of test, things that no training split shows, nor their likes.",
    UNLABELLED: "The images of scenes/dense without anything that is known of them, for pre-training.",
}
NOTES: Mapping[str, Mapping[str, str]] = {
    OBJECTS: {
        "1.0.0": "The first: digits.",
        "2.0.0": "Emoji; the digits could not be learnt in minutes.",
        "3.0.0": "Mean colours of backgrounds that both splits share.",
    },
    DENSE: {
        "1.0.0": "The first.",
        "2.0.0": "unseen: without what scenes/objects shows, and without what is like something of train. Nothing else "
        "has changed: train and test are those of 1.0.0, to the byte.",
    },
    UNLABELLED: {"1.0.0": "The first."},
}
SECONDS: Mapping[str, int] = {OBJECTS: 7, DENSE: 28, UNLABELLED: 22}  # that writing takes one core, about
SIZE = (dense_canvases.HEIGHT, dense_canvases.WIDTH)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Objects on photographs; every record is a function of configuration, split and index."""

    BUILDER_CONFIGS = tuple(
        tfds.core.BuilderConfig(
            name=name, version=VERSIONS[name], description=SHOWS[name], release_notes=dict(NOTES[name])
        )
        for name in CONFIGS
    )
    RECORDS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        OBJECTS: object_canvases.RECORDS,
        DENSE: dense_canvases.RECORDS,
        UNLABELLED: {split: dense_canvases.RECORDS[split] for split in ("train", "test")},
    }

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config.name
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{SHOWS[config]}\n\n{credit.description(alone=config == OBJECTS)}",
            homepage=credit.HOMEPAGE,
            features=features(config),
            supervised_keys=("image", "label") if config == OBJECTS else None,
            citation=credit.CITATION,
            license=credit.LICENCE,
            metadata=tfds.core.MetadataDict(known(config)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in self.RECORDS[self.builder_config.name]}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config.name
        for index in range(self.RECORDS[config][split]):
            yield index, record(config, split, index)


def features(config: str) -> tfds.features.FeaturesDict:
    """Of the records of 'objects', 'dense' or 'unlabelled'."""
    if config == OBJECTS:
        side = object_canvases.SIZE
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(object_canvases.CLASSES)),
                "photograph": tfds.features.Text(),
            }
        )
    image = tfds.features.Image(shape=(*SIZE, 3), encoding_format="png")
    if config == UNLABELLED:
        return tfds.features.FeaturesDict({"image": image})
    annotation = {
        "id": np.int64,
        "category_id": np.int64,
        "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        "area": np.float32,
        "iscrowd": np.int64,
        "counts": tfds.features.Text(),
        "concept": tfds.features.Text(),
        "file": tfds.features.Text(),
    }
    return tfds.features.FeaturesDict(
        {
            "image": image,
            "image_id": np.int64,
            "label_map": tfds.features.Image(shape=(*SIZE, 1), encoding_format="png"),
            "objects": tfds.features.Sequence(annotation),
            "photograph": tfds.features.Text(),
        }
    )


def record(config: str, split: str, index: int) -> dict:
    """Record `index` of a split, as the builder writes it; images are PNGs, since TFDS would encode by TensorFlow."""
    if config == OBJECTS:
        found = object_canvases.canvas(split, index)
        return {"image": png(found.image), "label": found.label, "photograph": found.photograph}
    dense = dense_canvases.canvas(split, index)
    if config == UNLABELLED:
        return {"image": png(dense.image)}
    return {
        "image": png(dense.image),
        "image_id": index + 1,
        "label_map": png(dense.label_map()),
        "objects": [annotation(each) for each in dense.annotations],
        "photograph": dense.photograph,
    }


def annotation(found: dense_canvases.Annotation) -> dict:
    """An object as COCO's annotations have it.

    bbox: (x, y, width, height) of the visible mask, in pixels. area: the mask's. counts: its run lengths, compressed.
    """
    return {
        "id": found.id,
        "category_id": found.category_id,
        "bbox": np.array(rle.box(found.mask), np.float32),
        "area": np.float32(np.count_nonzero(found.mask)),
        "iscrowd": int(found.iscrowd),
        "counts": rle.encode(found.mask),
        "concept": found.concept,
        "file": found.file,
    }


def known(config: str) -> dict:
    """What metadata.json beside the records says: who made what they are made of, and, of dense, the categories."""
    categories = [{"id": identity, "name": name} for identity, name in concepts.CATEGORIES.items()]
    return {"attributions": credit.lines()} | ({"categories": categories} if config == DENSE else {})


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 RGB [H, W, 3] or grey [H, W]."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def prepare(config: str, data_dir: str) -> None:
    """Writes scenes/`config` below `data_dir`, unless it is there already; one process at a time.

    Raises UserError where there is no such configuration, a package that it is made of is missing or damaged, or
    something else lies in its place, and OSError where nothing can be written.
    """
    if config not in CONFIGS:
        names = ", ".join(f"{NAME}/{each}" for each in CONFIGS)
        raise UserError(
            f"The data set {NAME} has configurations.\n"
            f"  expected: one of {names}\n"
            f"  given:    {f'{NAME}/{config}' if config else NAME}\n"
            f"  change:   --config.data.name={NAME}/{OBJECTS}"
        )

    def builder() -> Scenes:
        packages.check()
        intact.check()
        return Scenes(data_dir=data_dir, config=config, file_format="array_record")

    start = time.process_time()
    takes = f"which takes about {SECONDS[config]} s of processor time,"
    made_of = f"{sum(Scenes.RECORDS[config].values()):,} canvases of {NAME}/{config}, {takes}"
    if embedded.prepare(Path(data_dir), f"{NAME}/{config}", VERSIONS[config], made_of, builder):
        terminal.say(f"Written in {time.process_time() - start:.0f} s of processor time.")
