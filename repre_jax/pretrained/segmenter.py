"""A trained segmentation, taken out of its run: a function of an image that gives the class of each pixel.

segment = segmenter.load("runs/segment")
label_map = segment(image)               # uint8 [H, W, C] -> uint8 [H, W]
segment.classes.names[label_map[0, 0]]
segment.classes.painted(label_map)       # in the colours of the data set, uint8 [H, W, 3]
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import segmentation as builder
from repre_jax.core import run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelMaps
from repre_jax.data import label_classes, segmentation_views
from repre_jax.data.label_classes import Classes
from repre_jax.evaluation import sliding_window, windows
from repre_jax.evaluation.windows import PLAIN, Layout, Pass, SlidingTest
from repre_jax.models import resize
from repre_jax.models.encoders import Encoder
from repre_jax.models.segmentation import build as heads
from repre_jax.models.segmentation.build import Head
from repre_jax.pretrained import backbone, dense, saved_run
from repre_jax.pretrained.backbone import Backbone
from repre_jax.pretrained.digest import digest

TASK = "segment"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """An encoder with its head.

    config: the run's. step: of its checkpoint. variables: 'encoder' and 'head', parameters, and 'batch_stats', running
    statistics, on each device. how: the test that the run itself is measured by. classes: what the numbers mean that it
    gives, with names and colours. weights: SHA-256 of the encoder that training began with.
    """

    config: ConfigDict
    step: int
    encoder: Encoder
    head: Head
    variables: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    how: SlidingTest
    classes: Classes
    weights: str
    _compiled: dict[tuple[SlidingTest, Layout], Any] = field(default_factory=dict, repr=False)

    def logits(self, variables: dict[str, Any], pixels: jax.Array) -> jax.Array:
        """[N, *crop, C], normalised -> float32 [N, *crop, classes]."""
        output = self.encoder.apply({"params": variables["encoder"]}, pixels, train=False)
        of_head = {"params": variables["head"], "batch_stats": variables["batch_stats"]}
        found: Any = self.head.apply(of_head, output, train=False)
        return resize.bilinear(found.logits, pixels.shape[1:3], self.head.align_corners)

    def __call__(self, image: np.ndarray, how: SlidingTest | None = None) -> np.ndarray:
        """uint8 [H, W, C] of any size -> the class of each pixel, uint8 [H, W]. how: another test than the run's.

        An image that the test leaves below the crop is enlarged for it. Compiled once for each number of windows in a
        row and in a column. Raises UserError for what is no such image.
        """
        image, channels = np.asarray(image), len(self.mean)
        if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image to be segmented is {image.dtype} of shape {image.shape}.\n"
                f"  expected: uint8 [height, width, {channels}]"
            )
        size = (image.shape[0], image.shape[1])
        how = windows.reaching(size, how or self.how)
        found = windows.roomy(size, how)
        if how.scales == PLAIN and (new := how.sizes(size)[0]) != size:
            image = segmentation_views.resized(image, new)
        sample = segmentation_views.padded(image, found.scaled[0] if how.scales == PLAIN else found.canvas)
        own = np.array([size], np.int32)
        nothing = np.zeros((1, *found.canvas), np.uint8)  # no label map
        batch = LabelMaps(
            images=jnp.asarray(sample["images"])[None],
            label_maps=jnp.asarray(nothing),
            extents=jnp.asarray(sample["extents"])[None],
            label_extents=jnp.asarray(own),
        )
        program = dataclasses.replace(how, resize_to=how.resize_to and how.crop), found  # to what is the host's
        if program not in self._compiled:
            self._compiled[program] = self._compile(*program)
        classes: jax.Array = self._compiled[program](self.variables, batch, windows.passes(own, found, how))
        return np.asarray(classes[0])[: size[0], : size[1]]

    def _compile(self, how: SlidingTest, found: Layout) -> Any:
        def run(variables: dict[str, Any], batch: LabelMaps, passes: tuple[Pass, ...]) -> jax.Array:
            return sliding_window.predict(
                lambda pixels: self.logits(variables, pixels),
                batch,
                passes,
                found,
                how,
                mean=self.mean,
                std=self.std,
                align_corners=self.head.align_corners,
            ).astype(np.uint8)

        return jax.jit(run)


def load(
    run: str | Path,
    step: int | None = None,
    mesh: Mesh | None = None,
    *,
    dtype: str | None = None,
    attention: str = "xla",
    keys: str = saved_run.KEYS,
) -> Segmenter:
    """The segmentation that a run of configs/segment.py has trained, of its newest checkpoint or that of `step`.

    mesh: devices that get its parameters; else all. dtype: of matrix products, else the run's. attention: how it is
    computed, whatever the run was trained by (models/vit.py). keys: how the flag of `step` begins, for messages. Raises
    UserError where there is no such thing, or the encoder that it froze is not there any more.
    """
    mesh = mesh or sharding.make_mesh(jax.device_count())
    parts = ("params", "batch_stats")
    found = dense.trained(TASK, parts, run, step, mesh, dtype=dtype, attention=attention, keys=keys)
    config, params = found.config, found.state["params"]
    classes = _classes(found.run, found.record)
    weights = params.get("encoder") or _frozen(config, found.run, mesh, found.record["weights"])
    return Segmenter(
        config=config,
        step=found.step,
        encoder=found.encoder,
        head=heads.build(config.segment.head, len(classes), found.encoder),
        variables={"encoder": weights, "head": params["head"], "batch_stats": found.state["batch_stats"]["head"]},
        mean=found.mean,
        std=found.std,
        how=builder.sliding_test(config),
        classes=classes,
        weights=found.record["weights"],
    )


def for_head(config: ConfigDict, found: Backbone, blocks: Sequence[int] | None) -> Backbone:
    """The encoder with the pyramid that the config's head reads, and without a class token where that has no use for
    one; the config then says so. blocks: those that the config asked for.

    Raises UserError for a head that this encoder cannot feed.
    """
    encoder = builder.of_head(found.encoder, config.segment.head, blocks)
    heads.build(config.segment.head, 2, encoder)  # before anything is read: does it fit?
    return dense.read_as(config, found, encoder)


def _classes(run: Path, record: dict[str, Any]) -> Classes:
    """As the run's data set had them; numbers, where that was not kept."""
    known, count = run_files.read_data(run), record["data"]["classes"]
    names, colours, values = (known.get(key) or () for key in ("class_names", "class_colours", "class_values"))
    if len(names) != count:
        return label_classes.numbered(count)
    if not len(colours) == len(values) == count:
        return label_classes.plain(names)
    return label_classes.stored(names, [tuple(colour) for colour in colours], values)


def _frozen(config: ConfigDict, run: Path, mesh: Mesh, sha256: str) -> Any:
    """The parameters of an encoder that is in no checkpoint, since it was not trained."""
    theirs = config.copy_and_resolve_references()
    try:
        found = for_head(theirs, backbone.find(theirs, run, scratch=True, resize_positions=True), None)
    except UserError as error:
        raise UserError(
            f"{run} has trained its head on a frozen encoder, which is in no checkpoint of it and cannot be had:\n"
            f"  {str(error).splitlines()[0]}\n"
            "  change:   that run or file back to its place, or a link there to where it lies now"
        ) from None
    weights = found.untrained(mesh, config.seed) if config.network == "untrained" else found.load(mesh)
    if digest(weights) != sha256:
        raise UserError(
            f"The encoder in {config.init_from} is not the one on which {run} has trained its head.\n"
            "  change:   the weights back, as they were"
        )
    return weights
