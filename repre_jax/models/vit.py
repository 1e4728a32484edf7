"""Vision transformers, returning the intermediate block outputs that RePre's decoder wants.

The variants share the architecture (pre-norm blocks, MLP ratio 4, qkv bias, LayerNorm epsilon 1e-6):
deit and dino: learned positions, weights N(0, 0.02) (dino vision_transformer.py:146-172); moco_v3: fixed sin-cos
positions and its own initialisation (moco-v3 vits.py:22-127); sincos: the same, but with the number of heads that
everyone else has. The pyramid follows RePre section 3.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.core.types import EncoderOutput
from repre_jax.models import checks, layers, positions, pyramid, self_attention

LAYER_NORM_EPSILON = 1e-6  # in every ViT that the paper uses (moco-v3 vits.py:115-127, dino vision_transformer.py:236)

# What is added to the grid when learned positions are resized: DINO's guard against rounding, nothing elsewhere.
RESIZE_GUARD = {"deit": 0.0, "dino": 0.1}
FIXED = ("moco_v3", "sincos")
VIT_VARIANTS = (*RESIZE_GUARD, *FIXED)


class ViT(nn.Module):
    """images [N, H, W, channels] float32, normalised -> EncoderOutput with maps of H/patch x W/patch.

    Any H and W that the patch divides: learned positions belong to `image_size` and are resized for other images,
    fixed ones are computed for them. Parameters are float32; matrix products run in `dtype`; LayerNorm, softmax and the
    residual sum in float32. remat: forget what lies inside a block and compute it again for the gradient; remat_mlp:
    only what GELU gives, a fifth of it, which costs no product.
    attention: one of self_attention.KINDS. pyramid_blocks: those (from 1) whose outputs form the pyramid.
    class_token: False leaves it out, and its position: pooled is then the mean of the tokens, attention is
    [N, heads, T, T], cls and cls_of_last are None. Dense tasks need none (SETR-MLA).
    """

    width: int
    depth: int
    heads: int
    patch: int
    pyramid_blocks: tuple[int, ...]
    variant: str
    image_size: tuple[int, int]
    channels: int
    drop_path: float
    remat: bool
    dtype: Dtype
    attention: str = "xla"
    class_token: bool = True
    remat_mlp: bool = False

    @property
    def pyramid_levels(self) -> int:
        """K, how many maps the pyramid has."""
        return len(self.pyramid_blocks)

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
        x = self._with_positions(x.astype(jnp.float32))

        block = nn.remat(layers.Block) if self.remat else layers.Block
        rates = layers.drop_path_rates(self.drop_path if train else 0.0, self.depth)
        first, tokens = int(self.class_token), x.shape[1]  # the first patch, and the end of the last
        spare = self_attention.spare(self.attention, tokens)
        x = jnp.pad(x, ((0, 0), (0, spare), (0, 0)))
        maps, attention, classes = [], None, []
        for number, rate in enumerate(rates, start=1):
            x, weights = block(
                heads=self.heads,
                epsilon=LAYER_NORM_EPSILON,
                kernel_init=nn.initializers.xavier_uniform() if moco else layers.normal_02,
                qkv_init=layers.qkv_uniform if moco else layers.normal_02,
                drop_path=rate,
                return_weights=number == attention_of,
                dtype=self.dtype,
                attention=self.attention,
                spare=spare,
                remat_mlp=self.remat_mlp,
                name=f"block_{number}",
            )(x)
            attention = weights if number == attention_of else attention
            if number in self.pyramid_blocks:
                maps.append(x[:, first:tokens].reshape(count, rows, columns, self.width))
            if self.class_token and number > self.depth - last:
                classes.append(x[:, 0])
        norm = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")
        x = norm(x[:, :tokens])
        if not self.class_token:
            return EncoderOutput(x.mean(axis=1), None, x, tuple(maps), attention)
        return EncoderOutput(
            pooled=x[:, 0],
            cls=x[:, 0],
            tokens=x[:, 1:],
            pyramid=tuple(maps),
            attention=attention,
            cls_of_last=x[:, :1] if last == 1 else norm(jnp.stack(classes, axis=1)),
        )

    def _with_positions(self, x: jax.Array) -> jax.Array:
        """Patches [N, rows, columns, D] -> [N, 1 + rows * columns, D], the class token first, positions added."""
        count, rows, columns, width = x.shape
        x = x.reshape(count, rows * columns, width)
        if self.fixed_positions:
            # The class token has no position (vits.py:66), so at 1e-6 its first LayerNorm lives on the epsilon.
            cls = self._class_token(nn.initializers.normal(1e-6))
            x = x + positions.sincos(rows, columns, width)
        else:
            cls, first = self._class_token(layers.normal_02), int(self.class_token)
            shape = (1, first + self.grid[0] * self.grid[1], width)
            table = self.param("pos_embed", layers.normal_02, shape, jnp.float32)
            table, of_class = table[:, first:], table[:, :first]
            cls = None if cls is None else cls + of_class
            if (rows, columns) != self.grid:
                table = positions.resize(table.reshape(*self.grid, width), (rows, columns), RESIZE_GUARD[self.variant])
            x = x + table.reshape(1, rows * columns, width)
        return x if cls is None else jnp.concatenate([jnp.broadcast_to(cls, (count, 1, width)), x], axis=1)

    def _class_token(self, init: nn.initializers.Initializer) -> jax.Array | None:
        """[1, 1, D], None for an encoder without one."""
        return self.param("cls_token", init, (1, 1, self.width), jnp.float32) if self.class_token else None


def at_size(encoder: ViT, image_size: tuple[int, int]) -> ViT:
    """The same encoder, whose learned positions belong to images of another size: resize_positions gives them.

    Raises UserError when the patch does not divide the image.
    """
    checks.image_size(image_size, encoder.patch)
    return encoder.clone(image_size=tuple(image_size))


def without_class_token(encoder: ViT, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, of the same encoder with a class token, that this one, which has none, can use."""
    params = {name: tree for name, tree in params.items() if name != "cls_token"}
    return params if encoder.fixed_positions else params | {"pos_embed": params["pos_embed"][:, 1:]}


def resize_positions(encoder: ViT, params: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    """The parameters of at_size(encoder, image_size): learned positions are resized once, as the encoder itself
    resizes them in each pass over such images; fixed ones need nothing."""
    resized, params = at_size(encoder, image_size), dict(params)
    if encoder.fixed_positions or resized.grid == encoder.grid:
        return params
    first = int(encoder.class_token)
    table = jnp.asarray(params["pos_embed"])
    grid = table[0, first:].reshape(*encoder.grid, encoder.width)
    new = positions.resize(grid, resized.grid, RESIZE_GUARD[encoder.variant]).reshape(1, -1, encoder.width)
    return params | {"pos_embed": jnp.concatenate([table[:, :first], new], axis=1)}


def build(
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int = 16,
    pyramid_levels: int | None = None,
    pyramid_blocks: Sequence[int] | None = None,
    class_token: bool = True,
    variant: str = "deit",
    image_size: Sequence[int] = (224, 224),
    channels: int = 3,
    drop_path: float = 0.0,
    remat: bool = False,
    remat_mlp: bool = False,
    dtype: Dtype = jnp.float32,
    attention: str = "xla",
) -> ViT:
    """A ViT whose numbers fit together. image_size: height and width that learned positions belong to.

    Raises UserError when the patch does not divide the image, the heads the width, or 4 the width of sin-cos positions,
    when the pyramid does not fit the blocks (models/pyramid.py), for an unknown variant,
    or where the attention cannot be had.
    """
    checks.at_least_one(width=width, depth=depth, heads=heads, patch=patch, channels=channels)
    checks.drop_path(drop_path)
    checks.flag(remat=remat, remat_mlp=remat_mlp, class_token=class_token)
    if variant not in VIT_VARIANTS:
        raise UserError(f"Unknown encoder.variant {variant!r}.\n  expected: {', '.join(VIT_VARIANTS)}")
    checks.image_size(image_size, patch)
    checks.heads_divide(width, heads)
    if variant in FIXED and width % 4:
        raise UserError(
            f"encoder.width {width} must be a multiple of 4 for the positions of {variant}.\n"
            "  change:   --config.encoder.width"
        )
    blocks = pyramid.chosen_blocks(depth, pyramid_blocks, pyramid_levels)
    self_attention.check(attention, checks.dtype(dtype), width // heads)
    return ViT(
        width=width,
        depth=depth,
        heads=heads,
        patch=patch,
        pyramid_blocks=blocks,
        variant=variant,
        image_size=(image_size[0], image_size[1]),
        channels=channels,
        drop_path=drop_path,
        remat=remat,
        remat_mlp=remat_mlp,
        dtype=checks.dtype(dtype),
        attention=self_attention.settled(attention),
        class_token=class_token,
    )
