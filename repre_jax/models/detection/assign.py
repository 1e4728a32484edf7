"""Which object each anchor or proposal answers for, as mmdetection's MaxIoUAssigner says."""

import jax
import jax.numpy as jnp
from jax import lax

from repre_jax.models.detection.boxes import iou

IGNORED, BACKGROUND = -1, 0  # object k is k + 1
AT_ONCE = 8  # objects whose overlaps with all boxes are held at the same time


def assign(
    boxes: jax.Array,
    valid: jax.Array,
    objects: jax.Array,
    present: jax.Array,
    positive: float,
    negative: float,
    lowest: float,
) -> jax.Array:
    """Of each box int32 [N]: IGNORED, BACKGROUND, or k + 1 for object k.

    In this order, a later rule overruling an earlier one:
      1. a box whose best IoU is below `negative` is background (at it exactly, it is not);
      2. one whose best IoU is at least `positive` gets that object, the first of equal ones;
      3. each object whose best box has an IoU of at least `lowest` gets that box, and all that overlap it exactly as
         much. Where two objects claim a box, the later one gets it, be its IoU smaller.
    Everything else is ignored; without objects everything is background. The RPN has .7, .3, .3, the box head .5, .5,
    .5 (where rule 3 gives no new positives, but another object to some).

    boxes: float32 [N, 4]. valid: bool [N]; others are ignored, and are no object's best box. objects: float32 [G, 4].
    present: bool [G], False for padding. Objects are taken a few at a time, so that nothing is [N, G].
    """
    count = objects.shape[0]
    missing = -count % min(AT_ONCE, count)
    objects = jnp.pad(objects, ((0, missing), (0, 0))).reshape(-1, min(AT_ONCE, count), 4)
    present = jnp.pad(present, (0, missing)).reshape(objects.shape[:2])
    numbers = 1 + jnp.arange(present.size, dtype=jnp.int32).reshape(present.shape)

    def some(state: tuple, given: tuple) -> tuple[tuple, None]:
        best, best_object, claimed = state
        objects, present, numbers = given
        overlaps = jnp.where(present[:, None] & valid, iou(objects, boxes), -1.0)
        overlaps = lax.optimization_barrier(overlaps)  # rule 3 compares for equality: computed once, not in two ways
        top = overlaps.max(axis=0)
        best_object = jnp.where(top > best, numbers[overlaps.argmax(axis=0)], best_object)
        best_box = overlaps.max(axis=1, keepdims=True)
        claims = (overlaps == best_box) & (best_box >= lowest) & present[:, None]
        claimed = jnp.maximum(claimed, jnp.where(claims, numbers[:, None], 0).max(axis=0))
        return (jnp.maximum(best, top), best_object, claimed), None

    nothing = jnp.zeros(boxes.shape[0], jnp.int32)
    start = (jnp.full(boxes.shape[0], -1.0), nothing, nothing)
    (best, best_object, claimed), _ = lax.scan(some, start, (objects, present, numbers))
    assigned = jnp.where(best < negative, BACKGROUND, IGNORED)
    assigned = jnp.where(best >= positive, best_object, assigned)
    assigned = jnp.where(claimed > 0, claimed, assigned)
    return jnp.where(valid, assigned, IGNORED).astype(jnp.int32)
