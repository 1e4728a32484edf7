"""What flows between the rooms, and the letters that shapes are written with everywhere.

  B  global batch: records of one step over all devices    H, W, C  image height, width, channels
  V  views of one record (2)                               T  patch tokens of one image, without the class token
  N  images through the encoder, B * V, batch-major        D  width of the encoder
  K  hierarchies that the decoder fuses                    E  width of the embedding that the contrastive loss sees

Batch-major means that the views of one record lie side by side ([B, V, ...]): flattening to N then costs no
communication when B is sharded.
"""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Views:
    """One batch as it travels from the host to the device.

    images: uint8 [B, V, H, W, C] in 0..255, cropped and resized, otherwise not augmented.
    labels: int32 [B], the class of each record; training does not look at it.
    """

    images: jax.Array
    labels: jax.Array


@struct.dataclass
class EncoderOutput:
    """What every encoder returns, float32.

    pooled:    [N, D] the image's feature after the final LayerNorm (ViT: the class token; Swin: the tokens' mean).
    cls:       [N, D] the class token after the final LayerNorm, None for encoders without one.
    tokens:    [N, T, D] patch tokens after the final LayerNorm, row by row.
    pyramid:   K maps [N, h, w, C], shallow to deep: raw block outputs, before the final LayerNorm
               (RePre section 3.2, the set Y). ViT: all of one size; Swin: the last map of each stage, before merging.
    attention: attention weights of the block asked for, rows summing to 1, otherwise None.
               ViT: [N, heads, 1 + T, 1 + T], the class token first; Swin: [N, windows, heads, w * w, w * w], windows
               row by row on the map that was padded and, in every other block, rolled up and left by w // 2.
    """

    pooled: jax.Array
    cls: jax.Array | None
    tokens: jax.Array
    pyramid: tuple[jax.Array, ...]
    attention: jax.Array | None = None


@struct.dataclass
class TrainState:
    """Everything that changes during training. Arrays only, so that a checkpoint of it is the whole run.

    step:      int32 scalar, optimiser steps done.
    rng:       uint32 [2], the run's base key; constant. A step draws from fold_in(rng, step).
    params:    what gradients reach: encoder, projector, predictor and, with RePre, decoder and balance.
    target:    the moving average of {encoder, projector}.
    opt_state: the optimiser's own state.
    """

    step: jax.Array
    rng: jax.Array
    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: Any
