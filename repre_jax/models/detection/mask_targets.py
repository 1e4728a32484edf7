"""What the mask head learns of a region: its object's mask, 28 x 28."""

import jax
import jax.numpy as jnp
from jax import lax

from repre_jax.models.detection import anchors, boxes, windows

SIDE = 28
CHUNK = 32 * 2**20  # bytes of float32 pixels that are held at the same time
ROUNDING = 1e-5  # of a sample's weight: what exact arithmetic makes one half must not fall below it


def mask_targets(packed: jax.Array, objects: jax.Array, regions: jax.Array, extent: jax.Array) -> jax.Array:
    """Which of a region's 28 x 28 bins its object covers by at least one half, bool [R, 28, 28].

    mmdetection's rule: RoIAlign of the bitmap at the image's own resolution, the region clipped to the image with its
    own padding. packed: uint8 [G, H, ceil(W / 8)], masks of objects on the canvas as np.packbits(masks, axis=-1) makes
    them. objects: int32 [R] into them. regions: float32 [R, 4]. extent: int32 [2], the image's height and width.

    All of the canvas is weighed, 28 * H * W multiplications a region, since a region may be as large as the image.
    """
    size, packed = anchors.padded(extent), jnp.asarray(packed)
    height, width = packed.shape[1], packed.shape[2] * 8
    most = windows.most_samples(max(height, width), SIDE)
    regions = boxes.clip(regions.astype(jnp.float32), size) - 0.5

    def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        number, region = given
        start, side = region[1::-1], region[:1:-1] - region[1::-1]
        mask = jnp.unpackbits(packed[number], axis=-1).astype(jnp.float32)
        rows = windows.sums(start[0], side[0], size[0], jnp.arange(height), SIDE, most)
        columns = windows.sums(start[1], side[1], size[1], jnp.arange(width), SIDE, most)
        covered = jnp.einsum("py,yx->px", rows, mask, precision=lax.Precision.HIGHEST)
        covered = jnp.einsum("px,qx->pq", covered, columns, precision=lax.Precision.HIGHEST)
        samples = windows.count(side, SIDE, most).prod()
        return (covered >= (0.5 - ROUNDING) * samples) & (samples > 0)

    count = objects.shape[0]
    at_once = max(1, min(count, CHUNK // (4 * height * width)))
    missing = -count % at_once  # a rest of fewer would be a second program
    objects, regions = jnp.pad(objects, (0, missing)), jnp.pad(regions, ((0, missing), (0, 0)))
    return lax.map(one, (objects, regions), batch_size=at_once)[:count]
