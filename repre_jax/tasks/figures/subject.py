"""What a figure is of: an encoder with its weights, its data, and the images that it is shown."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, deep, photometric
from repre_jax.data.sources import DataSet
from repre_jax.data.views import NO_LABEL, VALUE_RANGE, label_of
from repre_jax.evaluation import features as extraction
from repre_jax.evaluation.batches import eval_batches, images_and_labels
from repre_jax.models import features
from repre_jax.models.encoders import Encoder
from repre_jax.pretrained import backbone
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations
from repre_jax.system import terminal
from repre_jax.tasks.figures import readable


class NotPossible(UserError):
    """A kind of figure that this encoder, or these data, do not allow."""


@dataclass(frozen=True)
class Shown:
    """images: uint8 [n, H, W, C]. labels: int32 [n], -1 without one. numbers: of the records, None for files."""

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray | None

    @property
    def pixels(self) -> np.ndarray:
        """float32 in 0..1."""
        return self.images.astype(np.float32) / 255


@dataclass(frozen=True)
class Numbered:
    """The records of `source` that `numbers` names, each with its own number for a label: so the features of a pass
    that leaves out what cannot be read say what they are of."""

    source: Records
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Mapping:
        number = int(self.numbers[index])
        return {**self.source[number], "label": number}


class Subject:
    """An encoder of a run or file. config: completed by it. given: images by path, in place of the data set's."""

    def __init__(self, config: ConfigDict, source: Path, mesh: Mesh, given: Sequence[Path]):
        """Raises UserError when the encoder, the data, unless images are given, or one of these cannot be had."""
        self.config = ConfigDict(config.to_dict())
        self.config.init_from = str(source)
        self.source, self.mesh, self.given = config_paths.absolute(source), mesh, given
        if self.is_run and not run_files.has_checkpoints(self.source):
            raise UserError(
                f"{self.source} is no run: it has no folder checkpoints.\n"
                "  expected: the --workdir of a pre-training run, or a file of weights"
            )
        self.found: Backbone = backbone.find(self.config, self.source / run_files.FIGURES, needs_data=not given)
        features.check(self.found.encoder, self.config.feature)
        self._dataset: DataSet | None = None
        if given and self.found.mean is not None:
            self.config.data.mean = self.config.data.mean or self.found.mean
            self.config.data.std = self.config.data.std or self.found.std
            methods.normalisation(self.config, None)
        else:
            self._dataset = evaluations.open_data(self.config, self.found)
        augmentation.image_size(self.config)

    @property
    def encoder(self) -> Encoder:
        return self.found.encoder

    @property
    def is_run(self) -> bool:
        """Not a file of weights."""
        return run_files.is_folder(self.source)

    @property
    def name(self) -> str:
        """Of the run's folder, or the file without its ending."""
        return self.source.name if self.is_run else self.source.stem

    @property
    def whose(self) -> str:
        """For example 'demo: moco_v3, online, step 2,245'."""
        known = ", ".join(filter(None, [self.found.origin["framework"], self.state]))
        return f"{self.name}: {known}" if known else self.name

    @property
    def state(self) -> str:
        """For example 'online, step 2,245', '' where nothing is known."""
        network, step = self.found.origin["branch"], self.found.origin["step"]
        return ", ".join(filter(None, [network, None if step is None else f"step {step:,}"]))

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """Of the encoder, float32, whole on each device."""
        return self.found.load(self.mesh)

    @property
    def dataset(self) -> DataSet:
        """Raises NotPossible when it cannot be opened."""
        if self._dataset is None:
            try:
                self._dataset = evaluations.open_data(self.config, self.found)
            except UserError as error:
                raise NotPossible(str(error)) from None
        return self._dataset

    @property
    def split(self) -> tuple[Records, str]:
        """The records that images come from, and what they are called: the test images where there are some."""
        train, test = self.dataset.train, self.dataset.test
        return (train, "training") if test is None else (test, "test")

    def normalised(self, images: jax.Array) -> jax.Array:
        """uint8 [N, H, W, C] -> what the encoder takes."""
        return photometric.normalize(images.astype(jnp.float32) / 255, self.config.data.mean, self.config.data.std)

    def run(self, apply: Callable[[dict[str, Any], jax.Array], Any], images: np.ndarray) -> Any:
        """apply(params, normalised images), in NumPy arrays. images: uint8 [N, H, W, C]. Raises UserError as finite."""
        found = jax.jit(lambda params, some: apply(params, self.normalised(some)))(self.params, images)
        return self.finite(jax.device_get(found))

    def finite(self, found: Any) -> Any:
        """The same. Raises UserError when the encoder gives anything else than numbers."""
        if not all(np.isfinite(array).all() for array in jax.tree.leaves(found)):
            raise UserError(
                f"What the encoder of {self.source} gives is not finite.\n  change:   --config.step, or RUN"
            )
        return found

    def view(self, encoded: Any, value_range: deep.Ranges | None = None) -> np.ndarray:
        """A record's image, or a file's bytes -> uint8 [H, W, C], as a test image. Raises crops.UnreadableImage."""
        return augmentation.build_test_view(self.config).image(encoded, value_range)

    @functools.cached_property
    def shown(self) -> Shown:
        """The images given, else config.figures.records of the data set's, chosen at random by the config's seed;
        those that cannot be read are passed over."""
        if self.given:
            images = np.stack([self._of_file(path) for path in self.given])
            return Shown(images, np.full(len(images), NO_LABEL, np.int32), None)
        source, _ = self.split
        order = np.random.default_rng(self.config.seed).permutation(len(source))
        return self.records(source, order, self.config.figures.records)

    def records(self, source: Records, numbers: np.ndarray, count: int) -> Shown:
        """The first `count` of these records that can be read. Raises UserError when none can."""

        def read(number: int) -> tuple[np.ndarray, np.int32, int]:
            record = source[number]
            return self.view(record["image"], record.get(VALUE_RANGE)), label_of(record), number

        found = readable.first(count, numbers, read)
        if not found:
            raise UserError(f"None of {len(numbers):,} records of {self.dataset.name} is a readable image.")
        return Shown(*(np.stack(column) for column in zip(*found, strict=True)))

    def features(self, source: Records, numbers: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """The config's feature of those of the records that can be read: float32 [records, D], and their numbers."""
        config, devices = self.config, self.mesh.size
        rows = min(config.batch_size, -(-len(numbers) // devices) * devices)  # few images need no large batch
        encode = jax.jit(
            lambda params, images: features.extract(self.encoder, config.feature, params, self.normalised(images))
        )
        batches = eval_batches(Numbered(source, numbers), augmentation.build_test_view(config), rows, what)
        labelled = images_and_labels(batches)
        found = extraction.extract(lambda images: encode(self.params, images), labelled, self.mesh)
        if missing := len(numbers) - len(found[1]):
            terminal.warn(f"Warning: {missing:,} of {len(numbers):,} {what} could not be read and are left out.")
        if not len(found[1]):
            raise UserError(f"None of {len(numbers):,} {what} of {self.dataset.name} is readable.")
        return self.finite(found[0]), found[1]

    def names(self, labels: np.ndarray) -> list[str | None]:
        """Of classes; None without a label."""
        known = self.dataset.class_names if self._dataset else None
        return [None if label < 0 else known[label] if known else str(label) for label in labels]

    def _of_file(self, path: Path) -> np.ndarray:
        try:
            return self.view(run_files.read_bytes(path), augmentation.value_range(self.config))
        except OSError as error:
            hint = "name runs and files before --images" if run_files.is_folder(path) else "--images"
            raise UserError(f"The image {path} cannot be read: {error.strerror}.\n  change:   {hint}") from None
        except crops.UnreadableImage as error:
            raise UserError(f"The image {path} cannot be read: {error}\n  change:   --images") from None
