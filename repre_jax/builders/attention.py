"""Which kind of attention a run takes where config.encoder.attention is 'auto'.

On a CPU it is 'xla'. On an accelerator a start compares the kinds that there are for it with self_attention.attend in
float32, values and gradients, on a few images, times those that agree and takes the fastest. starts.jsonl has what was
found, and a run that goes on keeps it, unless it goes on on other devices.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.models import layers, platform, self_attention, swin
from repre_jax.models.vit import ViT
from repre_jax.system import environment, runtime, terminal

AUTO = self_attention.AUTO
# What an accelerator has, in the order of preference where nothing is timed.
KINDS = {"gpu": ("pallas", "xla", "cudnn"), "tpu": ("pallas", "xla")}
IMAGES = 32  # that are compared
TURNS, CALLS = 5, 8  # turns that are timed, and calls in each, one after another on the device
FACTOR = 2.0  # a kind may differ from float32 by so many times what 'xla' does in the same dtype

Arrays = Any  # a tree
Module = tuple[nn.Module, tuple[Any, ...]]  # and what it is called with


@dataclass(frozen=True)
class Attention:
    """One that a step computes. of: kind -> module; raises UserError for a kind that cannot be had. times: blocks and
    views of an image that it is computed for."""

    of: Callable[[str], Module]
    times: int


@dataclass(frozen=True)
class Found:
    """What a comparison shows of one kind: its largest difference, relative, and its time; or why it is left out."""

    difference: float | None = None
    ms: float | None = None
    left_out: str | None = None


def settle(config: ConfigDict, workdir: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """The config with a kind in place of 'auto', and what the record of this start says of it. A finished run, of which
    only its summary is to be had, compares nothing."""
    if config.encoder.attention != AUTO:
        return config, {}
    device = platform.compiled_for()
    kind, compared = "xla", {}
    finished = runtime.largest(int(run_files.exists(workdir / run_files.RESULT)))
    if device in KINDS and not finished:
        kinds = KINDS[device]
        kind = _kept(workdir, kinds) or ""
        if not kind:
            timed = not config.deterministic
            found = compare(kinds, attentions(config), timed=timed) if runtime.is_main() else {}
            decided = kinds.index(fastest(found)) + 1 if found else 0  # by process 0: the others wait for it
            kind = kinds[runtime.largest(decided) - 1]
            compared = {name: dataclasses.asdict(each) for name, each in found.items()}
            terminal.say(describe(kind, found))
    settled = config.copy_and_resolve_references()
    settled.encoder.attention = kind
    return settled, {"attention": {"kind": kind, "compared": compared}}


def attentions(config: ConfigDict) -> list[Attention]:
    """Those of the config's encoder: a ViT's for each size of views, a Swin's of each stage."""
    sizes = {augmentation.image_size(config): augmentation.VIEWS}
    if config.augment.local_views:
        sizes[augmentation.local_size(config)] = config.augment.local_views
    found = []
    for size, views in sizes.items():
        encoder = methods.encoder_of(config, size)
        found += _of_vit(encoder, size, views) if isinstance(encoder, ViT) else _of_swin(encoder, size, views)
    return found


def _of_vit(encoder: ViT, size: tuple[int, int], views: int) -> list[Attention]:
    tokens = math.prod(side // encoder.patch for side in size) + encoder.class_token
    init, head = layers.normal_02, encoder.width // encoder.heads

    def of(kind: str) -> Module:
        self_attention.check(kind, encoder.dtype, head)
        spare = self_attention.spare(kind, tokens)
        module = layers.Attention(encoder.heads, tokens + spare, init, init, encoder.dtype, kind, spare)
        return _OfRows(module), (jax.random.normal(jax.random.PRNGKey(1), (IMAGES, tokens, encoder.width)), spare)

    return [Attention(of, encoder.depth * views)]


def _of_swin(encoder: swin.Swin, size: tuple[int, int], views: int) -> list[Attention]:
    found = []
    for stage, (depth, heads) in enumerate(zip(encoder.depth, encoder.heads, strict=True)):
        sides = [math.ceil(side // encoder.patch / 2**stage) for side in size]
        window = min(encoder.window, *sides)
        shape = (IMAGES, math.prod(math.ceil(side / window) for side in sides), window**2, encoder.width * 2**stage)

        def of(kind: str, heads: int = heads, shape: tuple[int, ...] = shape) -> Module:
            self_attention.check(kind, encoder.dtype, shape[-1] // heads, biased=True)
            module = swin.WindowAttention(heads, encoder.window, encoder.dtype, kind)
            return module, (jax.random.normal(jax.random.PRNGKey(1), shape), None)

        found.append(Attention(of, depth * views))
    return found


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


def fastest(found: Mapping[str, Found]) -> str:
    """Of the kinds that agree; the first where none was timed."""
    agreeing = {kind: each for kind, each in found.items() if each.left_out is None}
    if not agreeing:
        raise UserError(
            "encoder.attention auto: no kind of attention agrees with itself in float32 on this device.\n"
            + "".join(f"  {kind}: {each.left_out}\n" for kind, each in found.items())
            + "  change:   the versions of JAX and of its plugin; python -m repre_jax.tools.doctor shows them"
        )
    return min(agreeing, key=lambda kind: agreeing[kind].ms or 0.0)


def describe(kind: str, found: Mapping[str, Found]) -> str:
    """For the start of a run."""
    said = []
    for name, each in found.items():
        if each.left_out is not None:
            said.append(f"{name} left out, {each.left_out}")
        else:
            said.append(f"{name} {each.ms:.2f} ms" if each.ms is not None else f"{name} agrees")
    return f"Attention: {kind}" + (f" ({'; '.join(said)})" if said else ", as process 0 found")


def _kept(workdir: Path, kinds: Sequence[str]) -> str | None:
    """That of the run's last start, in process 0, if its devices are those that are here."""
    starts = run_files.read_metrics(workdir / run_files.STARTS) if runtime.is_main() else []
    before = [row for row in starts if row.get("attention")]
    here, kind = environment.devices(), None
    if before and before[-1].get("devices") == here:
        kind = before[-1]["attention"].get("kind")
    elif before:
        terminal.say(f"Attention is chosen anew: the last start was on {before[-1].get('devices')}, this is {here}.")
    number = runtime.largest(kinds.index(kind) + 1 if kind in kinds else 0)
    return kinds[number - 1] if number else None


def _results(kind: str, attention: Attention, *, exact: bool = False) -> Arrays:
    """The output and the gradients of parameters and input."""
    gradient, given = _gradient(kind, attention, exact=exact)
    with jax.default_matmul_precision("highest" if exact else None):
        return jax.tree.map(lambda x: x.astype(jnp.float32), jax.jit(gradient)(*given))


def _gradient(
    kind: str, attention: Attention, *, exact: bool = False
) -> tuple[Callable[..., Arrays], tuple[Arrays, ...]]:
    """(parameters, input) -> (output, their gradients), and what it is to be called with."""
    module, (x, *rest) = attention.of(kind)
    if exact:
        module = _in_float32(module)
    params = jax.jit(lambda key: module.init(key, x, *rest))(jax.random.PRNGKey(0))

    def gradient(params: Arrays, x: jax.Array) -> Arrays:
        output, back = jax.vjp(lambda *given: module.apply(*given, *rest)[0], params, x)
        wave = jnp.cos(jnp.arange(output.size, dtype=jnp.float32)).reshape(output.shape)
        return output, back(wave.astype(output.dtype))

    return gradient, (params, x)


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
    gradient, (params, x) = _gradient(kind, attention)

    def again(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        output, (_, of_x) = gradient(params, x)
        return x + 1e-6 * (of_x + output.mean().astype(of_x.dtype)), None  # so that none is left out

    calls = jax.jit(lambda x: jax.lax.scan(again, x, length=CALLS)[0])
    jax.block_until_ready(calls(x))
    seconds = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        jax.block_until_ready(calls(x))
        seconds.append(time.perf_counter() - begun)
    return 1e3 * attention.times * statistics.median(seconds) / CALLS
