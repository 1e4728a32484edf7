"""What a workdir already holds, and whether the run in it may go on."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core import config_paths, run_files
from repre_jax.core.checkpoint import Checkpoints, Ignored
from repre_jax.core.errors import Gone, UserError, meant
from repre_jax.data import identity
from repre_jax.system import runtime

# Keys that do not change what is computed but for rounding: where data lies, how fast it is read, what is logged, said
# and kept, how the state lies on devices.
FREE_KEYS = (
    "data.dir",
    "data.workers",
    "data.decoded_cache",
    "data.max_unreadable",
    "log_every",
    "knn.hog",
    "tensorboard",
    "wandb",
    "collapse_patience",
    "stop_after_skipped",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.keep_every",
    "checkpoint.best",
    "knn.times",
    "may_change",
    "shard_state",
    "gradient_reduction",
    "encoder.remat",
    "encoder.remat_mlp",
    "encoder.attention",
    "compile_cache",
    "deterministic",
    "distributed.coordinator",
    "distributed.processes",
    "distributed.process",
    "distributed.timeout",
    "distributed.step_timeout",
)

MEASURING = ("knn.", "data.test_", "segment.test_", "detect.test_")  # how the keys begin that only evaluations read


@dataclass(frozen=True)
class History:
    """What a run did before this start.

    step, seconds: of training so far, 0 for a new run. data: the data set it used. result: when it is finished.
    unreadable: numbers of the records that it could not read. weights: SHA-256 of those that it began with, if noted.
    ignored: what lies among its checkpoints and is none. changed: what differs now, as may_change allows.
    described: the data set of its last start (running/same_data.py), {} where that was not written down.
    left_out: numbers of the records without cached features, by split; None where it has none, or did not note them.
    """

    step: int = 0
    seconds: float = 0.0
    data: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    unreadable: Sequence[int] = ()
    ignored: Sequence[Ignored] = ()
    changed: Sequence[str] = ()
    weights: str | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, Sequence[int]] | None = None


def look(workdir: Path, settings: dict[str, Any]) -> History:
    """The result of a finished run, else the record of its newest whole checkpoint. Nothing is written.

    A finished run with other settings that settings['may_change'] names goes on from its last checkpoint.
    Raises UserError when that run had other settings which it does not name.
    """
    may_change, described = settings["may_change"], run_files.read_data(workdir)
    result = run_files.read_json(workdir / run_files.RESULT, ("steps", "seconds"))
    if result is not None:  # finished; its checkpoints may have been deleted since
        before = run_files.read_config(workdir, ("seed",)) or settings
        if not check_unchanged(before, settings, "config", may_change, workdir=workdir):
            return History(result["steps"], result["seconds"], result=result, described=described)
    if not run_files.has_checkpoints(workdir):
        return History(described=described)
    with contextlib.closing(Checkpoints(workdir / run_files.CHECKPOINTS)) as checkpoints:
        step, ignored = checkpoints.newest_whole() if runtime.is_main() else (None, [])  # which reads all of it
        step = runtime.largest(step or 0)
        if not step:
            return History(ignored=ignored, described=described)
        record = checkpoints.record(step)
    changed = check_unchanged(record["config"], settings, "config", may_change, workdir=workdir)
    data, unreadable = record["data"], record["unreadable"]
    return History(
        step=step,
        seconds=record["seconds"],
        data=data,
        unreadable=unreadable,
        ignored=ignored,
        changed=changed,
        weights=record.get("weights"),
        described=described,
        left_out=record.get("left_out"),
    )


def check_left(past: History, total_steps: int) -> None:
    """Raises UserError for changes that come too late to be trained; evaluations may change at any time."""
    late = [line for line in past.changed if not line.startswith(MEASURING)]
    if late and past.step >= total_steps:
        raise UserError(
            f"This run has done {past.step:,} steps, of {total_steps:,}: these changes would not be trained.\n"
            + "".join(f"  {line}\n" for line in late)
            + "  change:   --config.total_steps or epochs to more, with may_change naming it; or the values back"
        )


def check_fixed(past: History, weights: str | None, keys: Sequence[str]) -> None:
    """Raises UserError when a run that goes on would train with other weights than it began with, or with other values
    of `keys`, keys or groups of them."""
    if past.step:
        check_weights(past.weights, weights, f"the {past.step:,} steps in this workdir began with")
    late = [line for line in past.changed if any(f"{line.split(':')[0]}.".startswith(f"{key}.") for key in keys)]
    if past.step and late:
        raise UserError(
            f"What {past.step:,} steps were trained by cannot change:\n"
            + "".join(f"  {line}\n" for line in late)
            + "  change:   the value back, or --workdir to another folder"
        )


def check_weights(before: str | None, now: str | None, what: str) -> None:
    """Raises UserError when they differ, each a SHA-256. what: whose `before` were."""
    if before != now:
        raise UserError(
            f"The weights of init_from are not those that {what}.\n"
            "  change:   the weights back, or --workdir to another folder"
        )


def compare_weights(result: Mapping[str, Any], weights: Callable[[], str]) -> str:
    """A line to print below a finished evaluation's summary where its weights cannot be compared, '' where they can.

    weights: gives the SHA-256 of those that init_from has now. Raises UserError when they are others.
    """
    try:
        now = weights()
    except Gone as gone:
        return _not_compared(str(gone).splitlines()[0])
    if "weights_sha256" not in result:
        return _not_compared("result.json does not say which they were.")
    check_weights(result["weights_sha256"], now, "the finished evaluation in this workdir is of")
    return ""


def _not_compared(why: str) -> str:
    return f"\nNot compared with the weights that init_from has now: {why}"


def check_names(may_change: Sequence[str], settings: dict[str, Any]) -> None:
    """Raises UserError for an entry that names no key, of the config or a data set's identity, and no group of keys."""
    known = {*run_files.flat(settings), *(f"data.{name}" for name in identity.KEYS)}
    for name in may_change:
        if not any(f"{key}.".startswith(f"{name}.") for key in known):
            raise UserError(
                f"may_change names {name!r}, which is no key.{meant(str(name), known)}\n"
                "  expected: keys of configs/base.py, or a group such as 'optim'\n"
                "  change:   --config.may_change=\"('optim.lr', 'epochs')\""
            )


def reopen(workdir: Path) -> None:
    """Sets the result of a finished run aside, if there is one: it goes on."""
    result = workdir / run_files.RESULT
    if run_files.exists(result):
        run_files.move(result, workdir / run_files.RESULT_BEFORE)


@contextlib.contextmanager
def still_there(run: Path, step: int) -> Iterator[None]:
    """A run that trains on removes its older checkpoints."""
    try:
        yield
    except (OSError, ValueError):
        if run_files.is_folder(run / run_files.CHECKPOINTS / str(step)):
            raise
        raise Gone(
            f"Checkpoint {step} of {run} was removed meanwhile, by that run.\n"
            "  change:   start again, to take its newest one; or keep more of them there, by checkpoint.keep_every"
        ) from None


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON would give it back: dictionaries, lists, numbers, strings."""
    return json.loads(json.dumps(config.to_dict()))


def shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings, flat, that all processes of a run must have in common."""
    return {
        key: value
        for key, value in run_files.flat(settings).items()
        if not key.startswith("distributed.") and key not in ("data.dir", "data.workers")
    }


def check_unchanged(
    before: dict[str, Any],
    now: dict[str, Any],
    what: str,
    may_change: Sequence[str] = (),
    explained: Mapping[str, str] = MappingProxyType({}),
    workdir: Path | None = None,
) -> list[str]:
    """The differences that `may_change` allows, a line each; those of FREE_KEYS are none.

    may_change: keys, or the beginnings of keys up to a dot. what: names the thing compared. explained: what stands
    behind a key in place of both values, where these tell nothing. workdir: what to call it in the message; the
    command has not always named it.
    Raises UserError with all other differences.
    """
    old, new = run_files.flat(before), run_files.flat(now)
    lines = {
        key: f"{key}: {explained.get(key) or f'{old.get(key)!r} -> {new.get(key)!r}'}"
        for key in sorted(old | new)
        if key not in FREE_KEYS and not config_paths.same(key, old.get(key), new.get(key))
    }
    if "task" in lines:
        raise UserError(
            f"This workdir holds a run of the task {old.get('task')}, not of {new.get('task')}.\n"
            "  change:   --workdir, to another folder"
        )
    refused = [key for key in lines if not any(f"{key}.".startswith(f"{name}.") for name in may_change)]
    if refused:
        keys = ", ".join(repr(key) for key in (*may_change, *refused))
        raise UserError(
            f"This workdir holds a run with another {what}:\n"
            + "".join(f"  {lines[key]}\n" for key in refused)
            + (f"  workdir:  {workdir}\n" if workdir else "")
            + "  change:   the value back, to go on with that run; --workdir, to start a new one; or"
            + f'\n            --config.may_change="({keys},)", to go on with that run and the new value'
        )
    return list(lines.values())
