"""Vision transformers, returning the intermediate block outputs that RePre's decoder wants.

The variants share the architecture (pre-norm blocks, MLP ratio 4, qkv bias, LayerNorm epsilon 1e-6):
deit and dino: learned positions, weights N(0, 0.02) (dino vision_transformer.py:146-172); moco_v3: fixed sin-cos
positions and its own initialisation (moco-v3 vits.py:22-127); sincos: the same, but with the number of heads that
everyone else has. The pyramid follows RePre section 3.2.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.core.types import EncoderOutput
from repre_jax.models import checks, layers, positions

LAYER_NORM_EPSILON = 1e-6  # in every ViT that the paper uses (moco-v3 vits.py:115-127, dino vision_transformer.py:236)

# What is added to the grid when learned positions are resized: DINO's guard against rounding, nothing elsewhere.
RESIZE_GUARD = {"deit": 0.0, "dino": 0.1}
FIXED = ("moco_v3", "sincos")
ATTENTION = ("xla", "cudnn")  # layers.attend, or cuDNN's fused kernel
VIT_VARIANTS = (*RESIZE_GUARD, *FIXED)


def pyramid_blocks(depth: int, pyramid_levels: int) -> tuple[int, ...]:
    """The blocks (counted from 1) whose outputs form the pyramid: floor(i * depth / K), i = 1..K.

    12 blocks and K = 4 give 3, 6, 9, 12; 6 blocks give 1, 3, 4, 6. The last block always belongs to it. The paper
    writes multiples of floor(L / K), which is the same whenever K divides L and would miss y_L otherwise.

    Raises UserError when there are more pyramid levels than blocks, or none.
    """
    if not 1 <= pyramid_levels <= depth:
        raise UserError(
            f"encoder.pyramid_levels {pyramid_levels} does not fit an encoder of {depth} blocks.\n"
            f"  expected: 1 to {depth}, each level being the output of another block\n"
            f"  change:   --config.encoder.pyramid_levels={min(max(pyramid_levels, 1), depth)}"
        )
    return tuple(i * depth // pyramid_levels for i in range(1, pyramid_levels + 1))


class ViT(nn.Module):
    """images [N, H, W, channels] float32, normalised -> EncoderOutput with maps of H/patch x W/patch.

    Any H and W that the patch divides: learned positions belong to `image_size` and are resized for other images,
    fixed ones are computed for them. Parameters are float32; matrix products run in `dtype`; LayerNorm, softmax and the
    residual sum in float32. remat: forget what lies inside a block and compute it again for the gradient.
    attention: one of ATTENTION.
    """

    width: int
    depth: int
    heads: int
    patch: int
    pyramid_levels: int
    variant: str
    image_size: tuple[int, int]
    channels: int
    drop_path: float
    remat: bool
    dtype: Dtype
    attention: str = "xla"

    @property
    def grid(self) -> tuple[int, int]:
        """Patches high and wide of `image_size`."""
        return (self.image_size[0] // self.patch, self.image_size[1] // self.patch)

    @property
    def fixed_positions(self) -> bool:
        """Whether they are computed, not learned."""
        return self.variant in FIXED

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, attention_of: int | None = None, last: int = 1
    ) -> EncoderOutput:
        """train: drop paths, with the rng 'drop_path'. attention_of: the block (from 1) whose weights are returned.
        last: the number of last blocks whose class tokens cls_of_last holds."""
        checks.images(images, self.patch, self.channels)
        checks.attention_of(attention_of, self.depth)
        moco = self.fixed_positions
        kernel_init = layers.patch_uniform(self.width) if moco else layers.torch_uniform
        bias_init = nn.initializers.zeros if moco else layers.torch_bias(self.patch**2 * self.channels)
        x = layers.patch_embedding(self.width, self.patch, self.dtype, kernel_init, bias_init)(images)
        count, rows, columns, _ = x.shape
        x = self._with_class_token(x.astype(jnp.float32))

        block = nn.remat(layers.Block) if self.remat else layers.Block
        rates = layers.drop_path_rates(self.drop_path if train else 0.0, self.depth)
        wanted = pyramid_blocks(self.depth, self.pyramid_levels)
        pyramid, attention, classes = [], None, []
        for number, rate in enumerate(rates, start=1):
            x, weights = block(
                heads=self.heads,
                epsilon=LAYER_NORM_EPSILON,
                kernel_init=nn.initializers.xavier_uniform() if moco else layers.normal_02,
                qkv_init=layers.qkv_uniform if moco else layers.normal_02,
                drop_path=rate,
                return_weights=number == attention_of,
                dtype=self.dtype,
                cudnn=self.attention == "cudnn",
                name=f"block_{number}",
            )(x)
            attention = weights if number == attention_of else attention
            if number in wanted:
                pyramid.append(x[:, 1:].reshape(count, rows, columns, self.width))
            if number > self.depth - last:
                classes.append(x[:, 0])
        norm = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")
        x = norm(x)
        return EncoderOutput(
            pooled=x[:, 0],
            cls=x[:, 0],
            tokens=x[:, 1:],
            pyramid=tuple(pyramid),
            attention=attention,
            cls_of_last=x[:, :1] if last == 1 else norm(jnp.stack(classes, axis=1)),
        )

    def _with_class_token(self, x: jax.Array) -> jax.Array:
        """Patches [N, rows, columns, D] -> [N, 1 + rows * columns, D], positions added."""
        count, rows, columns, width = x.shape
        x = x.reshape(count, rows * columns, width)
        if self.fixed_positions:
            # The class token has no position (vits.py:66), so at 1e-6 its first LayerNorm lives on the epsilon.
            cls = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, width))
            x = x + positions.sincos(rows, columns, width)
        else:
            cls = self.param("cls_token", layers.normal_02, (1, 1, width))
            table = self.param("pos_embed", layers.normal_02, (1, 1 + self.grid[0] * self.grid[1], width))
            cls, table = cls + table[:, :1], table[:, 1:]
            if (rows, columns) != self.grid:
                table = positions.resize(table.reshape(*self.grid, width), (rows, columns), RESIZE_GUARD[self.variant])
            x = x + table.reshape(1, rows * columns, width)
        return jnp.concatenate([jnp.broadcast_to(cls, (count, 1, width)), x], axis=1)


def build(
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int = 16,
    pyramid_levels: int = 4,
    variant: str = "deit",
    image_size: Sequence[int] = (224, 224),
    channels: int = 3,
    drop_path: float = 0.0,
    remat: bool = False,
    dtype: Dtype = jnp.float32,
    attention: str = "xla",
) -> ViT:
    """A ViT whose numbers fit together. image_size: height and width that learned positions belong to.

    Raises UserError when the patch does not divide the image, the heads the width, or 4 the width of sin-cos positions,
    when there are more pyramid levels than blocks, for an unknown variant, or where cuDNN's attention cannot be had.
    """
    checks.at_least_one(
        width=width, depth=depth, heads=heads, patch=patch, channels=channels, pyramid_levels=pyramid_levels
    )
    checks.drop_path(drop_path)
    checks.flag(remat=remat)
    if variant not in VIT_VARIANTS:
        raise UserError(f"Unknown encoder.variant {variant!r}.\n  expected: {', '.join(VIT_VARIANTS)}")
    checks.image_size(image_size, patch)
    checks.heads_divide(width, heads)
    if variant in FIXED and width % 4:
        raise UserError(
            f"encoder.width {width} must be a multiple of 4 for the positions of {variant}.\n"
            "  change:   --config.encoder.width"
        )
    pyramid_blocks(depth, pyramid_levels)
    _check_attention(attention, checks.dtype(dtype), width // heads)
    return ViT(
        width,
        depth,
        heads,
        patch,
        pyramid_levels,
        variant,
        tuple(image_size),
        channels,
        drop_path,
        remat,
        checks.dtype(dtype),
        attention,
    )


def _check_attention(attention: str, dtype: Dtype, head_width: int) -> None:
    """Raises UserError for an unknown implementation, or where cuDNN's cannot compute what is asked for."""
    if attention not in ATTENTION:
        raise UserError(f"Unknown encoder.attention {attention!r}.\n  expected: {' or '.join(ATTENTION)}")
    if attention == "xla":
        return
    platform = jax.default_backend()
    narrow = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    if not (platform == "gpu" and narrow and head_width % 8 == 0 and head_width <= 128):
        raise UserError(
            f"encoder.attention cudnn: {jnp.dtype(dtype)}, heads {head_width} wide, on {platform}.\n"
            "  expected: bfloat16, heads of a multiple of 8 up to 128, on an NVIDIA GPU\n"
            "  change:   --config.encoder.attention=xla"
        )
