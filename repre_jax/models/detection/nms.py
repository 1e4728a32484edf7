"""Non-maximum suppression in static shapes, with the answer of the greedy algorithm."""

import jax
import jax.numpy as jnp
from jax import lax

from repre_jax.models.detection.boxes import iou


def nms(
    boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: float, groups: jax.Array | None = None
) -> jax.Array:
    """Which boxes are kept, bool [N].

    In the order of falling scores, equal ones in the order given, a valid box is kept unless its IoU with one that was
    kept before exceeds `threshold`: an IoU equal to it does not suppress.

    That walk has N steps. Here instead all boxes are judged at once, again and again, each by those kept in the round
    before, until a round changes nothing. The first box is right from the start, and after each round at least one
    more: what no round changes is the walk's answer, and it is reached after as many rounds as the longest chain of
    boxes that decide about each other, some ten.

    boxes: float32 [N, 4]. scores: float32 [N]. valid: bool [N]; others are not kept and suppress nothing.
    groups: int [N]; boxes of different groups, such as classes, do not see each other. Memory: one bool [N, N].
    """
    places = jnp.arange(boxes.shape[0])
    first, second = scores[:, None], scores[None]
    before = (first > second) | ((first == second) & (places[:, None] < places[None]))
    suppresses = before & (iou(boxes, boxes) > threshold)
    if groups is not None:
        suppresses &= groups[:, None] == groups[None]

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        found = valid & ~(suppresses & kept[:, None]).any(axis=0)
        return found, (found != kept).any()

    kept, _ = lax.while_loop(lambda state: state[1], again, (valid, valid.any()))
    return kept
