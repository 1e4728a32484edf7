"""Multiply-adds by formula: biases, norms, softmax, heads and resizing are left out (under 1 % at 224 pixels)."""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks import products
from repre_jax.builders import augmentation
from repre_jax.models import layers
from repre_jax.models.decoder import Decoder
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT
from repre_jax.train.pretrain import Pretraining

Size = tuple[int, int]
Pyramid = tuple[tuple[int, int, int], ...]  # (h, w, C) of each level, shallow to deep
SIDE = 224


def encoder_macs(encoder: Encoder, size: Size = (SIDE, SIDE)) -> int:
    """Multiply-adds of one image's forward pass; sides of Swin's maps rounded up, its windows taken as full."""
    rows, columns = (side // encoder.patch for side in size)
    macs = rows * columns * encoder.patch**2 * encoder.channels * encoder.width
    macs += sum(count * block_macs(*block) for count, *block in _blocks(encoder, size))
    if isinstance(encoder, ViT):
        return macs
    for stage in range(1, len(encoder.depth)):
        rows, columns = -(-rows // 2), -(-columns // 2)
        macs += rows * columns * 8 * (encoder.width * 2 ** (stage - 1)) ** 2
    return macs


def recomputed(encoder: Encoder, size: Size = (SIDE, SIDE)) -> dict[str, int]:
    """FLOPs that the gradient of one image computes again, by what is forgotten (`encoder.remat_mlp`, `remat`): the
    GELUs, as JAX traces them; each block but its last product, which no gradient asks for."""
    gelu = products.flops(layers.gelu, jax.ShapeDtypeStruct((1,), encoder.dtype))
    found = {"remat_mlp": 0, "remat": 0}
    for count, tokens, seen, width in _blocks(encoder, size):
        found["remat_mlp"] += count * gelu * tokens * 4 * width
        found["remat"] += count * (2 * (block_macs(tokens, seen, width) - tokens * 4 * width**2))
    return found


def _blocks(encoder: Encoder, size: Size) -> list[tuple[int, int, int, int]]:
    """(How many, tokens, how many of them each attends to, width) of equal blocks; a Swin's of each stage."""
    rows, columns = (side // encoder.patch for side in size)
    if isinstance(encoder, ViT):
        tokens = rows * columns + encoder.class_token
        return [(encoder.depth, tokens, tokens, encoder.width)]
    found = []
    for stage, depth in enumerate(encoder.depth):
        found.append((depth, rows * columns, min(encoder.window, rows, columns) ** 2, encoder.width * 2**stage))
        rows, columns = -(-rows // 2), -(-columns // 2)
    return found


def block_macs(tokens: int, seen: int, width: int) -> int:
    """A transformer block over `tokens`, each of which attends to `seen`."""
    return tokens * (12 * width**2 + 2 * seen * width)


def decoder_macs(module: Decoder, pyramid: Pyramid) -> int:
    """Multiply-adds of the decoder's forward pass for one image."""
    widths = module.widths(tuple(channels for _, _, channels in pyramid))
    macs, width = 0, widths[-1]
    for level, ((h, w, channels), own) in enumerate(zip(pyramid, widths, strict=True), start=1):
        if module.lateral_share is not None and (not module.single or level == len(pyramid)):
            macs += h * w * channels * own
    for (h, w, _), own in reversed(list(zip(pyramid, widths, strict=True))[:-1]):
        entering = width if module.single else width + own
        if module.operator == "conv":
            macs += h * w * 9 * (entering * own + (module.fusion_layers - 1) * own**2)
        else:
            seen = h * w if module.window is None else module.window**2
            macs += h * w * entering * own if entering != own else 0
            macs += module.fusion_layers * block_macs(h * w, seen, own)
        width = own
    return macs + math.prod(pyramid[0][:2]) * width * module.patch**2 * module.channels


def pyramid_of(encoder: Encoder, size: Size = (SIDE, SIDE)) -> Pyramid:
    """Of images of `size`."""
    images = jax.ShapeDtypeStruct((1, *size, encoder.channels), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    return tuple(level.shape[1:] for level in jax.eval_shape(encoder.apply, variables, images).pyramid)


def of_step(method: Pretraining, config: ConfigDict) -> int:
    """FLOPs of a whole step, two to a multiply-add: online views forward and backward (3 x forward), target views
    forward, reconstructed views through the decoder forward and backward. What remat computes again is not counted."""
    size, reconstruction, framework = augmentation.image_size(config), method.reconstruction, method.framework
    target = framework.target_views if framework.target == "ema" else 0
    macs = target * encoder_macs(method.encoder, size)
    macs += 3 * sum(views * encoder_macs(method.encoder, each) for each, views in learnt_views(method, config).items())
    if reconstruction:
        macs += 3 * reconstruction.views * decoder_macs(reconstruction.decoder, pyramid_of(method.encoder, size))
    return 2 * config.batch_size * macs


def learnt_views(method: Pretraining, config: ConfigDict) -> dict[Size, int]:
    """How many views of a record, by their size, a gradient passes the encoder for."""
    framework, reconstruction = method.framework, method.reconstruction
    online = max(framework.online_views, reconstruction.views if reconstruction else 0)
    local = {augmentation.local_size(config): config.augment.local_views} if config.augment.local_views else {}
    return {augmentation.image_size(config): online} | local


def shares_of_remat(encoder: Encoder, views: dict[Size, int], batch: int, whole: int) -> dict[str, float]:
    """What each key computes again of a step of `whole` FLOPs. views: learnt_views'."""
    found = {"remat_mlp": 0.0, "remat": 0.0}
    for size, count in views.items():
        for key, flops in recomputed(encoder, size).items():
            found[key] += batch * count * flops / whole
    return found


def in_words(config: ConfigDict, shares: dict[str, float]) -> str:
    """For people: which of them the config sets, and what each costs."""
    asked = next((key for key in ("remat", "remat_mlp") if config.encoder[key]), "nothing")
    costs = ", ".join(f"{key} {share:.1%}" for key, share in shares.items())
    return f"{asked}; of the step's FLOPs would be computed again: {costs}"
