"""What flows between the rooms, and the letters that shapes are written with everywhere.

  B  global batch: records of one step over all devices    H, W, C  image height, width, channels
  V  global views of one record (2)                        T  patch tokens of one image, without the class token
  L  local views of one record, smaller (DINO; else 0)     Q  keys in a queue
  N  images through the encoder, B * V, batch-major        D  width of the encoder
  K  pyramid levels that the decoder fuses                 E  width of the embedding that the contrastive loss sees
  G  slots for the objects of one image

Batch-major means that the views of one record lie side by side ([B, V, ...]): flattening to N then costs no
communication when B is sharded.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct


class Records(Protocol):
    """Random access to the records of a split: {'image': encoded bytes or an array, 'label': int if any, ...}."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping: ...


@struct.dataclass
class Views:
    """One batch as it travels from the host to the device.

    images: uint8 [B, V, H, W, C] in 0..255, cropped and resized, otherwise not augmented.
    labels: int32 [B], the class of each record; training does not look at it.
    local:  uint8 [B, L, h, w, C], smaller views of smaller parts, or None.
    """

    images: jax.Array
    labels: jax.Array
    local: jax.Array | None = None


@struct.dataclass
class LabelledImages:
    """One batch of a supervised task, as it travels from the host to the device.

    images: uint8 [B, H, W, C] in 0..255, cropped and resized, otherwise not augmented.
    labels: int32 [B], the class of each record.
    """

    images: jax.Array
    labels: jax.Array


@struct.dataclass
class LabelMaps:
    """One batch of images with a class for each pixel, as it travels from the host to the device.

    images:     uint8 [B, H, W, C] in 0..255, cropped and resized, otherwise not augmented.
    label_maps: uint8 [B, H, W], the class of each pixel; 255: ignored.
    extents:    int32 [B, 2], height and width of what is image, at the top left. The rest is padding, which counts as
                0 after normalising, and is ignored.
    label_extents: int32 [B, 2], the same of label_maps, where those are of another size than images, as they are in a
                test on resized images; None: extents.
    """

    images: jax.Array
    label_maps: jax.Array
    extents: jax.Array
    label_extents: jax.Array | None = None


@struct.dataclass
class ObjectImages:
    """One batch of images with boxes and masks of their objects, as it travels from the host to the device.

    G slots hold the objects of an image; 0 where nothing is trained, as in a test. A box is x0, y0, x1, y1 in pixels of
    the canvas: edges, so that 0 is the left or upper edge of the image, and its width the right one.

    images:  uint8 [B, H, W, C] in 0..255, resized and cropped, at the top left of a canvas; otherwise not augmented.
    extents: int32 [B, 2], height and width of what is image. The rest is padding, which counts as 0 after normalising.
    boxes:   float32 [B, G, 4]. classes: int32 [B, G]. valid: bool [B, G]: the slots that hold an object, which are the
             first ones.
    masks:   uint8 [B, G, H, ceil(W / 8)], a bit a pixel as np.packbits writes them; [B, G, 0, 0] where boxes are
             all that is known or asked for.
    records: int32 [B], the number of each record in its stored split; -1 where there is none.
    scale:   float32 [B, 2], by how much height and width were multiplied, the last time that they were resized.
    sizes:   int32 [B, 2], height and width of the images as they are stored.
    """

    images: jax.Array
    extents: jax.Array
    boxes: jax.Array
    classes: jax.Array
    valid: jax.Array
    masks: jax.Array
    records: jax.Array
    scale: jax.Array
    sizes: jax.Array


@struct.dataclass
class Pixels:
    """The augmented views of one batch, float32 in 0..1, not normalised: what a step learns from.

    views: [B, V, H, W, C]. local: [B, L, h, w, C], or None.
    """

    views: jax.Array
    local: jax.Array | None = None


@struct.dataclass
class EncoderOutput:
    """What every encoder returns, float32.

    pooled:    [N, D] the image's feature after the final LayerNorm (ViT: the class token; Swin, and a ViT
               without one: the tokens' mean).
    cls:       [N, D] the class token after the final LayerNorm, None for encoders without one.
    tokens:    [N, T, D] patch tokens after the final LayerNorm, row by row.
    pyramid:   K maps [N, h, w, C], shallow to deep: raw block outputs, before the final LayerNorm
               (RePre section 3.2, the set Y). ViT: all of one size; Swin: the last map of each stage, before merging.
    attention: attention weights of the block asked for, rows summing to 1, otherwise None.
               ViT: [N, heads, 1 + T, 1 + T], the class token first, [N, heads, T, T] without one;
               Swin: [N, windows, heads, w * w, w * w], windows row by row on the map that was padded and, in every
               other block, rolled up and left by w // 2.
    cls_of_last: [N, n, D] class tokens of the last n blocks, each after the final LayerNorm, the last block's last
               (dino vision_transformer.py:225-233); None for encoders without one.
    """

    pooled: jax.Array
    cls: jax.Array | None
    tokens: jax.Array
    pyramid: tuple[jax.Array, ...]
    attention: jax.Array | None = None
    cls_of_last: jax.Array | None = None


@struct.dataclass
class SegmentationLogits:
    """What every segmentation head returns, float32, each map at the head's own resolution.

    logits:    [N, h, w, classes].
    auxiliary: such maps of the auxiliary heads, which serve training only; () elsewhere. They may have other sides.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...] = ()


@struct.dataclass
class TrainState:
    """Everything that changes during training. Arrays only, so that a checkpoint of it is the whole run.

    step:      int32 scalar, batches seen. Schedules, random draws and the data's place follow from it.
    rng:       uint32 [2], the run's base key; constant. A step draws from fold_in(rng, step).
    params:    what gradients reach: encoder, projector, where the framework has one predictor and, with RePre, decoder
               and balance.
    target:    the moving average of {encoder, projector}; {} for a framework without one.
    opt_state: the optimiser's own state.
    framework_state: what the framework keeps beside: a queue, a centre; {} for most.
    batch_stats: running statistics of modules that normalise by the batch, as Linen's collection of that name; {} for
               most.
    skipped, skipped_in_a_row: int32 scalars, steps whose loss or gradient was not finite, in all and up to now. Such a
               step changes step and these counters only.
    first_bad_step: int32 scalar, the first step of the newest such row, counted from 1; 0 as long as there was none.
    """

    step: jax.Array
    rng: jax.Array
    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: Any
    framework_state: dict[str, Any]
    batch_stats: dict[str, Any]
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    first_bad_step: jax.Array

    @classmethod
    def begin(
        cls,
        rng: jax.Array,
        params: dict[str, Any],
        opt_state: Any,
        target: dict[str, Any] | None = None,
        framework_state: dict[str, Any] | None = None,
        batch_stats: dict[str, Any] | None = None,
    ) -> "TrainState":
        """At step 0, nothing skipped."""
        zero = jnp.zeros((), jnp.int32)
        kept = (target or {}, opt_state, framework_state or {}, batch_stats or {})
        return cls(zero, rng, params, *kept, zero, zero, zero)
