"""From what the anchor head says to the boxes that are looked at closer, of one image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repre_jax.models.detection import anchors, boxes
from repre_jax.models.detection.nms import nms


class Proposals(NamedTuple):
    """The best boxes of an image, by falling score; slots that are not valid stand at the end.

    boxes: float32 [R, 4], within the image; some may be empty. scores: float32 [R]. valid: bool [R].
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


def propose(
    logits: jax.Array,
    deltas: jax.Array,
    canvas: tuple[int, int],
    extent: jax.Array,
    per_level: int,
    number: int,
    threshold: float = 0.7,
) -> Proposals:
    """The `number` best boxes that non-maximum suppression leaves, of the `per_level` best anchors of each level.

    logits [A], deltas [A, 4]: the anchor head's, of all anchors on a canvas of height and width `canvas`.
    extent: int32 [2], height and width of the image, to which boxes are clipped. threshold: the IoU above which a box
    suppresses a worse one of its level.

    Anchors that the image, padded to its own multiple of 32, does not have propose nothing, so that a larger canvas
    changes nothing: mmdetection's see no others in a test, and in training those that the second image of a pair
    brings. Empty boxes stay, as in mmdetection 2.11 with min_bbox_size 0. No gradient passes.
    """
    logits, deltas = lax.stop_gradient((logits, deltas))
    scores = jax.nn.sigmoid(logits.astype(jnp.float32))
    given, there = anchors.anchors(canvas), anchors.valid(canvas, extent)
    ends = np.cumsum([0, *map(len, given)]).tolist()
    count = min(per_level, max(map(len, given)))

    def of_level(level: int) -> tuple[jax.Array, jax.Array]:
        part = slice(ends[level], ends[level + 1])
        best, at = lax.top_k(jnp.where(there[level], scores[part], -1.0), min(count, len(given[level])))
        found = boxes.clip(boxes.decode(jnp.asarray(given[level])[at], deltas[part][at]), extent)
        missing = count - len(at)
        return jnp.pad(found, ((0, missing), (0, 0))), jnp.pad(best, (0, missing), constant_values=-1.0)

    levels = (of_level(level) for level in range(len(given)))
    found, best = (jnp.stack(parts) for parts in zip(*levels, strict=True))
    kept = jax.vmap(lambda found, best: nms(found, best, best >= 0, threshold))(found, best)
    best = jnp.where(kept, best, -1.0).reshape(-1)
    best, at = lax.top_k(best, min(number, best.shape[0]))
    valid = best >= 0
    return Proposals(jnp.where(valid[:, None], found.reshape(-1, 4)[at], 0), jnp.where(valid, best, 0), valid)
