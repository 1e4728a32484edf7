"""An encoder as it lies in a checkpoint of a run."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Gone, UserError
from repre_jax.pretrained.weight_file import evaluated_network
from repre_jax.running import resume
from repre_jax.system import terminal

KEYS = "--config."  # how the keys begin that messages name; a tool has flags of its own
FINETUNE = "finetune"  # the other task whose runs hold an encoder with all that an evaluation takes over from a run

Params = dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """One encoder of a run's checkpoint.

    framework: that it was pre-trained by; of a run that has trained it on, its task. network: 'online' or 'target'.
    config, record: the run's, as they stand in the checkpoint.
    load(mesh): the parameters, float32, whole on each device, whatever devices they were saved from; of another part
    than the encoder with its name, such as 'decoder', which no target has.
    """

    framework: str
    network: str
    step: int
    config: ConfigDict
    record: dict[str, Any]
    load: Callable[..., Params]


def saved(
    run: Path, network: str | None, step: int | None, *, keys: str = KEYS, hint: str = "", any_task: bool = False
) -> Saved:
    """The encoder of a run that `network` and `step` name: else what the framework's authors evaluate, and the newest.

    It is of pre-training or fine-tuning. any_task: or was trained on by another task, such as a detector's. keys, hint:
    how a user names them, and what else may help where there is no such step, for messages.
    Raises UserError when there is none, or it is damaged.
    """
    step, record, shapes = chosen(run, step, keys=keys, hint=hint)
    theirs = ConfigDict(record["config"])
    theirs.encoder.attention = "xla"  # which any machine has, whatever the run was trained by
    trained_on = (any_task or theirs.get("task") == FINETUNE) and "encoder" in shapes["params"]
    if "framework" not in theirs and not trained_on:
        raise UserError(
            f"{run} is a run of the task {theirs.get('task')!r}.\n  expected: one of pre-training or fine-tuning"
        )
    framework = theirs.framework.name if "framework" in theirs else theirs.task
    network = network or evaluated_network(framework)
    if network == "target" and not shapes["target"]:
        raise UserError(
            f"The run {run} has no target: {framework} keeps no moving average.\n  change:   {keys}network=online"
        )
    tree = "target" if network == "target" else "params"

    def load(mesh: Mesh, part: str = "encoder") -> Params:
        wanted = {tree: {part: shapes[tree][part]}}
        places = jax.tree.map(lambda _: sharding.replicated(mesh), wanted)
        with contextlib.closing(Checkpoints(run / run_files.CHECKPOINTS)) as checkpoints, resume.still_there(run, step):
            return checkpoints.restore_part(step, wanted, places)[tree][part]

    return Saved(framework, network, step, theirs, record, load)


def chosen(
    run: Path, step: int | None, *, keys: str = KEYS, hint: str = ""
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """(Step of a checkpoint, its record, the shapes of its arrays): that of `step`, else the newest whole one.

    Raises as `saved`.
    """
    if not run_files.has_checkpoints(run):
        raise UserError(f"{run} is no run: it has no folder checkpoints.\n  expected: the --workdir of a run")
    with contextlib.closing(Checkpoints(run / run_files.CHECKPOINTS)) as checkpoints:
        step = _step(checkpoints, run, step, keys, hint)
        record, shapes = checkpoints.record(step), checkpoints.shapes(step)
    return step, record, shapes


def _step(checkpoints: Checkpoints, run: Path, step: int | None, keys: str, hint: str) -> int:
    """The step asked for, else the newest whole checkpoint's."""
    if step is None:
        step, ignored = checkpoints.newest_whole()
        if step is None:
            faults = "".join(f"  {item.folder.name}: {item.why}\n" for item in ignored)
            raise UserError(f"There is no whole checkpoint in {checkpoints.directory}.\n{faults}".rstrip())
        for item in ignored:
            terminal.warn(f"Ignored: checkpoint {item} of {run}.")
        return step
    if step not in checkpoints.measures():
        known = ", ".join(map(str, sorted(checkpoints.measures()))) or "none"
        raise Gone(
            f"The run {run} has no checkpoint {step}, or not any more.\n  expected: one of {known}\n"
            f"  change:   {keys}step=...{hint}"
        )
    if fault := checkpoints.fault(step):
        raise UserError(f"Checkpoint {step} of {run} is damaged: {fault}.\n  change:   {keys}step to another one")
    return step
