"""The losses of Mask R-CNN on what was sampled, and what their sums are divided by: recipes of mmdetection 2.

Every sum is over the whole batch that is given, and so is what it is divided by. mmdetection divides by what the two
images of a GPU hold and takes the mean over GPUs. For anchors, classes and boxes that is the same while each image
gives all the samples that are asked for, which is nearly always; for masks it is not: there each positive counts alike
here, and there those of two images with few of them count for more.

With nothing to sum the losses are 0, and so are their gradients. Float32 throughout.
"""

import jax
import jax.numpy as jnp
import optax

Pair = tuple[jax.Array, jax.Array]


def anchors(logits: jax.Array, deltas: jax.Array, targets: jax.Array, positive: jax.Array, used: jax.Array) -> Pair:
    """(Loss of there being an object, of the deltas) of sampled anchors [B, S].

    logits [B, S], deltas and targets [B, S, 4]; positive, used: bool [B, S], a positive one being used. Both are
    divided by the number of samples, where an image without positives, or without negatives, counts as if it had one
    (SwinOD mmdet/models/dense_heads/anchor_head.py:356-357, 471-472).
    """
    negative = used & ~positive
    count = sum(jnp.maximum(kind.sum(axis=1), 1).sum() for kind in (positive, negative))
    wrong = optax.sigmoid_binary_cross_entropy(_at(used, logits), positive.astype(jnp.float32))
    return jnp.where(used, wrong, 0).sum() / count, _distance(deltas, targets, positive) / count


def regions(logits: jax.Array, deltas: jax.Array, classes: jax.Array, targets: jax.Array, used: jax.Array) -> Pair:
    """(Loss of the class, of the deltas of that class) of sampled regions [B, S].

    logits [B, S, classes + 1], deltas [B, S, classes, 4], targets [B, S, 4]; classes: int32 [B, S], the last for
    background; used: bool [B, S]. Both are divided by the number of samples, background and all
    (SwinOD mmdet/models/roi_heads/bbox_heads/bbox_head.py:230-266).
    """
    count = jnp.maximum(used.sum(), 1)
    background = logits.shape[-1] - 1
    wrong = optax.softmax_cross_entropy_with_integer_labels(_at(used[..., None], logits), classes)
    chosen = _of_class(deltas.swapaxes(-1, -2), classes[..., None])
    positive = used & (classes < background)
    return jnp.where(used, wrong, 0).sum() / count, _distance(chosen, targets, positive) / count


def masks(logits: jax.Array, targets: jax.Array, classes: jax.Array, positive: jax.Array) -> jax.Array:
    """Loss of each pixel of the mask of a region's own class: the mean over the positive ones' pixels.

    logits [B, S, h, w, classes], targets [B, S, h, w] of 0 and 1; classes: int32 [B, S], anything where not positive.
    """
    chosen = _of_class(logits, classes[..., None, None])
    there = positive[..., None, None]
    wrong = optax.sigmoid_binary_cross_entropy(_at(there, chosen), targets.astype(jnp.float32))
    count = jnp.maximum(positive.sum(), 1) * (logits.shape[-3] * logits.shape[-2])
    return jnp.where(there, wrong, 0).sum() / count


def _of_class(x: jax.Array, classes: jax.Array) -> jax.Array:
    """[..., classes] -> [...], the value of each one's class, 0 of the background. By a sum, which fuses with what
    follows; the gradient of taking it would be a scatter."""
    return jnp.where(jnp.arange(x.shape[-1]) == classes[..., None], x, 0).sum(axis=-1)


def _distance(deltas: jax.Array, targets: jax.Array, positive: jax.Array) -> jax.Array:
    """Sum of the absolute differences where positive; both [B, S, 4]."""
    there = positive[..., None]
    return jnp.where(there, jnp.abs(_at(there, deltas) - _at(there, targets)), 0).sum()


def _at(there: jax.Array, x: jax.Array) -> jax.Array:
    """x, and 0 where nobody asks for it: what is not finite there reaches no gradient."""
    return jnp.where(there, x, 0)
