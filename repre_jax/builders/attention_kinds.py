"""The kinds of attention of an encoder, compared on this device: which agree with float32, and how long each takes.

builders/attention.py takes one of them.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repre_jax.core.errors import UserError
from repre_jax.models import layers, self_attention, swin
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT

IMAGES = 32  # that are compared at most
LARGE = 2**29  # bytes in float32, of the weights or of q, k and v of so many images; fewer where they would take more
TURNS, CALLS = 5, 8  # turns that are timed, and calls in each, one after another on the device
FACTOR = 2.0  # a kind may differ from float32 by so many times what 'xla' does in the same dtype

Arrays = Any  # a tree
Module = tuple[nn.Module, tuple[Any, ...]]  # and what it is called with


@dataclass(frozen=True)
class Attention:
    """One that a step computes. of: kind -> module; raises UserError for a kind that cannot be had. times: blocks and
    views of an image that it is computed for. learns: whether a gradient passes it."""

    of: Callable[[str], Module]
    times: int
    learns: bool = True


@dataclass(frozen=True)
class Found:
    """What a comparison shows of one kind: its largest difference, relative, and its time; or why it is left out."""

    difference: float | None = None
    ms: float | None = None
    left_out: str | None = None


def of_encoder(encoder: Encoder, size: tuple[int, int], views: int = 1, *, learns: bool = True) -> list[Attention]:
    """Those that it computes for so many views of `size`: a ViT's, a Swin's of each stage. learns: see Attention."""
    found = [_of_vit(encoder, size)] if isinstance(encoder, ViT) else _of_swin(encoder, size)
    return [dataclasses.replace(each, times=each.times * views, learns=learns) for each in found]


def _of_vit(encoder: ViT, size: tuple[int, int]) -> Attention:
    tokens = math.prod(side // encoder.patch for side in size) + encoder.class_token
    init, head = layers.normal_02, encoder.width // encoder.heads
    images = _images(encoder.heads * tokens**2, 3 * tokens * encoder.width)

    def of(kind: str) -> Module:
        self_attention.check(kind, encoder.dtype, head)
        spare = self_attention.spare(kind, tokens)
        module = layers.Attention(encoder.heads, tokens + spare, init, init, encoder.dtype, kind, spare)
        return _OfRows(module), (jax.random.normal(jax.random.PRNGKey(1), (images, tokens, encoder.width)), spare)

    return Attention(of, encoder.depth)


def _of_swin(encoder: swin.Swin, size: tuple[int, int]) -> list[Attention]:
    found = []
    for stage, (depth, heads) in enumerate(zip(encoder.depth, encoder.heads, strict=True)):
        sides = [math.ceil(side // encoder.patch / 2**stage) for side in size]
        window = min(encoder.window, *sides)
        windows, width = math.prod(math.ceil(side / window) for side in sides), encoder.width * 2**stage
        images = _images(windows * heads * window**4, 3 * windows * window**2 * width)
        shape = (images, windows, window**2, width)

        def of(kind: str, heads: int = heads, shape: tuple[int, ...] = shape) -> Module:
            self_attention.check(kind, encoder.dtype, shape[-1] // heads, biased=True)
            module = swin.WindowAttention(heads, encoder.window, encoder.dtype, kind)
            return module, (jax.random.normal(jax.random.PRNGKey(1), shape), None)

        found.append(Attention(of, depth))
    return found


def _images(*numbers: int) -> int:
    """How many are compared of which an image makes arrays of so many numbers."""
    return max(1, min(IMAGES, LARGE // (4 * max(numbers))))


class _OfRows(nn.Module):
    """Attention of [N, T, D], to which tokens that nobody attends to are added for those kinds that want them."""

    attention: layers.Attention

    @nn.compact
    def __call__(self, x: jax.Array, spare: int) -> tuple[jax.Array, None]:
        padded = jnp.pad(x, ((0, 0), (0, spare), (0, 0)))
        output, _ = self.attention(layers.as_rows(padded))
        return output.reshape(padded.shape)[:, : x.shape[1]], None


def compare(kinds: Sequence[str], attentions: Sequence[Attention], *, timed: bool = True) -> dict[str, Found]:
    """What there is to say of each kind, over all these attentions; of those that agree, the time if `timed`."""
    exact = [_results("xla", each, exact=True) for each in attentions]
    with_rounding = [_results("xla", each) for each in attentions]
    allowed = [FACTOR * _difference(*pair) + 1e-5 for pair in zip(with_rounding, exact, strict=True)]
    found = {}
    for kind in kinds:
        try:
            results = [_results(kind, each) for each in attentions]
            differences = [_difference(*pair) for pair in zip(results, exact, strict=True)]
            if any(not each <= most for each, most in zip(differences, allowed, strict=True)):
                text = f"it differs by {max(differences):.1e} from float32, more than {FACTOR:g} times what xla does"
                found[kind] = Found(max(differences), left_out=text)
                continue
            ms = sum(_milliseconds(kind, each) for each in attentions) if timed else None
            found[kind] = Found(max(differences), ms)
        except Exception as error:  # whatever a kernel's compiler, JAX or a check raises: the run goes on without it
            said = str(error).strip() or type(error).__name__
            found[kind] = Found(left_out=f"it fails: {said.splitlines()[0][:200]}")
    return found


def takes(kind: str, attention: Attention) -> bool:
    """Whether it can be had for such shapes, as far as its own checks tell; nothing is run."""
    try:
        module, (x, *rest) = attention.of(kind)
        jax.eval_shape(lambda key: module.init(key, x, *rest), jax.random.PRNGKey(0))
    except UserError:
        return False
    return True


def _results(kind: str, attention: Attention, *, exact: bool = False) -> Arrays:
    """The output and, where it learns, the gradients of parameters and input."""
    passes, given = _passes(kind, attention, exact=exact)
    with jax.default_matmul_precision("highest" if exact else None):
        return jax.tree.map(lambda x: x.astype(jnp.float32), jax.jit(passes)(*given))


def _passes(
    kind: str, attention: Attention, *, exact: bool = False
) -> tuple[Callable[..., Arrays], tuple[Arrays, ...]]:
    """(parameters, input) -> (output, their gradients if it learns), and what it is to be called with."""
    module, (x, *rest) = attention.of(kind)
    if exact:
        module = _in_float32(module)
    params = jax.jit(lambda key: module.init(key, x, *rest))(jax.random.PRNGKey(0))

    def forward(params: Arrays, x: jax.Array) -> jax.Array:
        return module.apply(params, x, *rest)[0]

    def both(params: Arrays, x: jax.Array) -> Arrays:
        output, back = jax.vjp(forward, params, x)
        wave = jnp.cos(jnp.arange(output.size, dtype=jnp.float32)).reshape(output.shape)
        return output, back(wave.astype(output.dtype))

    return both if attention.learns else lambda *given: (forward(*given), ()), (params, x)


def _in_float32(module: Any) -> nn.Module:
    if isinstance(module, _OfRows):
        return module.clone(attention=module.attention.clone(dtype=jnp.float32))
    return module.clone(dtype=jnp.float32)


def _difference(found: Arrays, exact: Arrays) -> float:
    """The largest, relative to the largest value of each array; nan where a number is none."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    return float(np.max([jnp.abs(one - other).max() / (jnp.abs(other).max() + 1e-30) for one, other in pairs]))


def _milliseconds(kind: str, attention: Attention) -> float:
    """Of all that a step computes of it for IMAGES images, by the median of some turns."""
    passes, (params, x) = _passes(kind, attention)

    def again(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        output, gradients = passes(params, x)
        of_x = gradients[1] if gradients else 0.0
        return x + (1e-6 * (of_x + output.mean())).astype(x.dtype), None  # so that none is left out

    calls = jax.jit(lambda x: jax.lax.scan(again, x, length=CALLS)[0])
    jax.block_until_ready(calls(x))
    seconds = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        jax.block_until_ready(calls(x))
        seconds.append(time.perf_counter() - begun)
    return 1e3 * attention.times * IMAGES / len(x) * statistics.median(seconds) / CALLS
