"""What a Mask R-CNN learns of one image: which anchors and regions are sampled, and what its heads should say."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.models.detection import anchors, boxes
from repre_jax.models.detection.assign import IGNORED, assign
from repre_jax.models.detection.proposals import Proposals
from repre_jax.models.detection.sample import sample


@dataclass(frozen=True)
class Sampling:
    """How many are sampled of an image, and by what overlap: mmdetection's (SwinOD configs/_base_/models/).

    anchors, anchor_positives: samples, and at most how many of them are an object's; so with regions.
    anchor_overlaps: (positive, negative, lowest) of assign; so with region_overlaps.
    per_level, proposals, threshold: of propose, in training.
    """

    anchors: int = 256
    anchor_positives: int = 128
    anchor_overlaps: tuple[float, float, float] = (0.7, 0.3, 0.3)
    regions: int = 512
    region_positives: int = 128
    region_overlaps: tuple[float, float, float] = (0.5, 0.5, 0.5)
    per_level: int = 2000
    proposals: int = 1000
    threshold: float = 0.7


class Objects(NamedTuple):
    """boxes: float32 [G, 4]. classes: int32 [G]. valid: bool [G]; the other slots are empty."""

    boxes: jax.Array
    classes: jax.Array
    valid: jax.Array


class Anchors(NamedTuple):
    """S sampled anchors. indices: int32 [S], among all. deltas: float32 [S, 4], to the object's box. positive, used:
    bool [S], see sample.Sample."""

    indices: jax.Array
    deltas: jax.Array
    positive: jax.Array
    used: jax.Array


class Regions(NamedTuple):
    """S sampled regions, the positive ones in front.

    boxes: float32 [S, 4]. classes: int32 [S], `background` where not positive. objects: int32 [S], the object's slot.
    deltas: float32 [S, 4], to the object's box. positive, used: bool [S], see sample.Sample.
    """

    boxes: jax.Array
    classes: jax.Array
    objects: jax.Array
    deltas: jax.Array
    positive: jax.Array
    used: jax.Array


def of_anchors(
    key: jax.Array, canvas: tuple[int, int], extent: jax.Array, objects: Objects, settings: Sampling
) -> Anchors:
    """Of an image of int32 [2] `extent` at the top left of a canvas. key: the image's own."""
    given = jnp.asarray(np.concatenate(anchors.anchors(canvas)))
    there = jnp.concatenate(anchors.valid(canvas, extent))
    assigned = assign(given, there, objects.boxes, objects.valid, *settings.anchor_overlaps)
    indices, positive, used = sample(key, assigned, settings.anchors, settings.anchor_positives)
    wanted = objects.boxes[jnp.maximum(assigned[indices] - 1, 0)]
    return Anchors(indices, boxes.encode(given[indices], wanted), positive, used)


def of_regions(key: jax.Array, proposals: Proposals, objects: Objects, background: int, settings: Sampling) -> Regions:
    """Among the proposals and the objects' own boxes, which stand first and are each their own object's.

    They join after assignment, and take their chance among the positives (mmdetection's add_gt_as_proposals; SwinOD
    mmdet/core/bbox/samplers/base_sampler.py:73-80). key: the image's own. background: the class of no object.
    """
    overlaps = settings.region_overlaps
    assigned = assign(proposals.boxes, proposals.valid, objects.boxes, objects.valid, *overlaps)
    slots = jnp.arange(1, len(objects.valid) + 1, dtype=jnp.int32)
    assigned = jnp.concatenate([jnp.where(objects.valid, slots, IGNORED), assigned])
    candidates = jnp.concatenate([objects.boxes, proposals.boxes])
    indices, positive, used = sample(key, assigned, settings.regions, settings.region_positives)
    chosen = jnp.where(used[:, None], candidates[indices], 0)
    slot = jnp.maximum(assigned[indices] - 1, 0)
    classes = jnp.where(positive, objects.classes[slot], background)
    deltas = boxes.encode(chosen, objects.boxes[slot], boxes.BOX_HEAD)
    return Regions(chosen, classes, slot, deltas, positive, used)
