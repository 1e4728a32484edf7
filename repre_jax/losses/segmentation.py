"""The loss of a map of classes: the cross-entropy of each pixel, averaged over all or over those with a class."""

import jax
import jax.numpy as jnp

IGNORED = 255  # of a label map: no class, as of padding, of borders and of what nobody has labelled
OVER = ("all", "labelled")  # pixels that the mean is taken over


def cross_entropy(logits: jax.Array, label_maps: jax.Array) -> jax.Array:
    """Of each pixel, float32 [..., H, W]; 0 where it is ignored. logits: [..., H, W, classes]; label_maps: integers."""
    counts = label_maps != IGNORED
    labels = jnp.where(counts, label_maps, 0).astype(jnp.int32)
    logits = logits.astype(jnp.float32)
    of_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jnp.where(counts, jax.nn.logsumexp(logits, axis=-1) - of_label, 0.0)


def denominator(label_maps: jax.Array, over: str) -> jax.Array:
    """What the sum of the pixels' losses is divided by, a float32 scalar of at least 1.

    all:      every pixel, ignored ones and padding too, as SETR and mmsegmentation have it
              (SETR mmseg/models/losses/cross_entropy_loss.py:19-30): the more is ignored, the smaller the step.
    labelled: those with a class. A batch that has none gives a loss of 0, not 0 / 0. Of microbatches each is divided by
              its own number, and their mean is taken: not quite the mean over the whole batch's labelled pixels.
    """
    if over == "all":
        return jnp.float32(label_maps.size)
    return jnp.maximum((label_maps != IGNORED).sum(dtype=jnp.int32), 1).astype(jnp.float32)


def correct(logits: jax.Array, label_maps: jax.Array) -> jax.Array:
    """How many pixels' largest logit is that of their class, an int32 scalar; ignored ones do not count."""
    return ((logits.argmax(axis=-1) == label_maps) & (label_maps != IGNORED)).sum(dtype=jnp.int32)
