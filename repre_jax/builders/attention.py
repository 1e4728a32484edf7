"""Which kind of attention a run takes where config.encoder.attention is 'auto'.

On a CPU it is 'xla'. On an accelerator a start compares the kinds that there are for it with self_attention.attend in
float32, values and gradients, on a few images, times those that agree and takes the fastest. starts.jsonl has the kind
of every start and what was found. A run that goes on from a checkpoint keeps that of its last start, chosen or asked
for by name, unless it goes on on other devices, or with another dtype that the kind does not take.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from repre_jax.builders import attention_kinds, augmentation, methods
from repre_jax.builders.attention_kinds import Attention, Found
from repre_jax.core import manifest, run_files
from repre_jax.core.errors import UserError
from repre_jax.models import platform, self_attention
from repre_jax.models.encoders import Encoder
from repre_jax.system import environment, runtime, terminal

AUTO = self_attention.AUTO
NOTHING: Mapping[str, Any] = MappingProxyType({})  # the record of a start that chose nothing
# What an accelerator has, in the order of preference where nothing is timed.
KINDS = {"gpu": ("pallas", "xla", "cudnn"), "tpu": ("pallas", "xla")}


def settle(config: ConfigDict, workdir: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """The config of a pre-training with a kind in place of 'auto', and what the record of this start says of it."""
    if config.encoder.attention != AUTO:
        return config, _recorded(config.encoder.attention)
    kind, record = _chosen(config, workdir, lambda: attentions(config))
    settled = config.copy_and_resolve_references()
    settled.encoder.attention = kind
    return settled, record


def of_trained(
    config: ConfigDict, encoder: Encoder, workdir: Path, size: tuple[int, int], *, learns: bool = True
) -> tuple[Encoder, dict[str, Any]]:
    """The same for a trained encoder that a task trains on images of `size`, or reads without a gradient: the encoder
    with the kind that the config then has, too, and the record."""
    if config.encoder.attention != AUTO:
        return encoder, _recorded(config.encoder.attention)
    kind, record = _chosen(config, workdir, lambda: attention_kinds.of_encoder(encoder, size, learns=learns))
    config.encoder.attention = kind
    return encoder.clone(attention=kind), record


def attentions(config: ConfigDict) -> list[Attention]:
    """Those of a pre-training's encoder, for each size of views."""
    sizes = {augmentation.image_size(config): augmentation.VIEWS}
    if config.augment.local_views:
        sizes[augmentation.local_size(config)] = config.augment.local_views
    pairs = [attention_kinds.of_encoder(methods.encoder_of(config, size), size, views) for size, views in sizes.items()]
    return [each for some in pairs for each in some]


def _chosen(
    config: ConfigDict, workdir: Path, attentions: Callable[[], Sequence[Attention]]
) -> tuple[str, dict[str, Any]]:
    """The kind, and what the record of this start says of it. A finished run compares nothing, since its summary alone
    is to be had, unless may_change lets it go on."""
    kind, compared = "", {}
    finished = not config.may_change and runtime.largest(int(run_files.exists(workdir / run_files.RESULT)))
    if kinds := KINDS.get(platform.compiled_for(), ()):
        kind = _kept(workdir, kinds, told=not finished) if finished or _saved(workdir) else ""
        if not finished and not (kind and _taken(kind, attentions())):
            kind, found = choose(attentions(), timed=not config.deterministic)
            compared = {name: dataclasses.asdict(each) for name, each in found.items()}
    return kind or "xla", _recorded(kind or "xla", compared)


def _recorded(kind: str, compared: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    return {"attention": {"kind": kind, "compared": dict(compared)}}


def _taken(kind: str, attentions: Sequence[Attention]) -> bool:
    """Whether a kind that was kept takes what the run has now; says so where not."""
    if all(attention_kinds.takes(kind, each) for each in attentions):
        return True
    terminal.say(f"Attention is chosen anew: the last start's, {kind}, does not take this config.")
    return False


def choose(attentions: Sequence[Attention], *, timed: bool = True) -> tuple[str, dict[str, Found]]:
    """The kind, and what was found of each, which is said, too. Process 0 compares, and the others wait for it. On a
    CPU 'xla', and nothing is found."""
    kinds = KINDS.get(platform.compiled_for(), ())
    if not kinds:
        return "xla", {}
    found = attention_kinds.compare(kinds, attentions, timed=timed) if runtime.is_main() else {}
    decided = kinds.index(fastest(found)) + 1 if found else 0
    kind = kinds[runtime.largest(decided) - 1]
    terminal.say(f"Attention: {describe(kind, found)}{'' if found else ', as process 0 found'}")
    return kind, found


def preferred(attentions: Sequence[Attention]) -> str:
    """The first in the order of preference that takes these shapes: for a chip that is not there."""
    kinds = KINDS.get(platform.compiled_for(), ("xla",))
    return next(kind for kind in kinds if all(attention_kinds.takes(kind, each) for each in attentions))


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
    """For people: 'pallas (pallas 1.25 ms; xla 3.10 ms; cudnn left out, it fails: ...)'."""
    said = []
    for name, each in found.items():
        if each.left_out is not None:
            said.append(f"{name} left out, {each.left_out}")
        else:
            said.append(f"{name} {each.ms:.2f} ms" if each.ms is not None else f"{name} agrees")
    return kind + (f" ({'; '.join(said)})" if said else "")


def _saved(workdir: Path) -> bool:
    """Whether the run goes on from a step; else its kind may be why it failed before the first was saved."""
    steps = manifest.finished(workdir / run_files.CHECKPOINTS) if runtime.is_main() else []
    return runtime.largest(len(steps)) > 0


def _kept(workdir: Path, kinds: Sequence[str], *, told: bool) -> str:
    """That of the run's last start, in process 0, if its devices are those here. A start that noted none, before there
    was a choice, had its config's. told: whether another is named."""
    starts = run_files.read_metrics(workdir / run_files.STARTS) if runtime.is_main() else []
    here, kind = environment.devices(), ""
    if starts and starts[-1].get("devices") == here:
        saved = (run_files.read_config(workdir, ()) or {}).get("encoder", {}).get("attention")
        kind = starts[-1].get("attention", {}).get("kind", saved)
    elif starts and told:
        terminal.say(f"Attention is chosen anew: the last start was on {starts[-1].get('devices')}, this is {here}.")
    number = runtime.largest(kinds.index(kind) + 1 if kind in kinds else 0)
    return kinds[number - 1] if number else ""
