"""Starting a new run from the weights of another one, or from a file's."""

import contextlib
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.builders import methods
from repre_jax.builders.compiled_step import Step
from repre_jax.core import config_paths, run_files, state_shapes
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.pretrained import weight_file
from repre_jax.pretrained.weight_file import WeightFile
from repre_jax.running import resume
from repre_jax.system import terminal

# A run's workdir, and the step of one of its checkpoints; or a file that was read.
Source = tuple[Path, int] | WeightFile
Taken = tuple[dict[str, Any], list[str], str]  # parameters, which parts of them are not fresh, whose they are


def find(config: ConfigDict, workdir: Path) -> Source:
    """The run that config.init_from names, and its newest whole checkpoint: the one of this run's earlier starts, if
    that is still there. Or the file of weights.

    Raises UserError when there is none, or its encoder is another one by its config or card.
    """
    source = config_paths.absolute(config.init_from)
    if source == workdir:
        raise UserError(
            f"init_from is the run's own workdir, {workdir}.\n"
            "  change:   --workdir, for a new run with these weights; without init_from a run goes on by itself"
        )
    if run_files.is_file(source):
        file = weight_file.read(source)
        if file.card:
            _check_encoder(file.card["config"], config, f"file {source}")
        return file
    before = [
        row["init_step"]
        for row in run_files.read_metrics(workdir / run_files.STARTS)
        if row.get("init_from") == str(source)
    ]
    with contextlib.closing(Checkpoints(source / run_files.CHECKPOINTS)) as checkpoints:
        again = before and before[0] in checkpoints.measures() and checkpoints.fault(before[0]) is None
        step = before[0] if again else checkpoints.newest_whole()[0]
        if step is None:
            raise UserError(
                f"There is no whole checkpoint in {checkpoints.directory}.\n"
                "  change:   --config.init_from=RUN, the workdir of another run, or a file of weights"
            )
        _check_encoder(checkpoints.record(step)["config"], config, f"run {source}")
    return source, step


def described(source: Source) -> dict[str, Any]:
    """What the record of a start says of it."""
    if isinstance(source, WeightFile):
        whose = {"framework": source.framework, "branch": source.network, "sha256": source.sha256}
        return {"init_from": str(source.path), "init_step": source.step, **whose}
    return {"init_from": str(source[0]), "init_step": source[1]}


def start_from(step: Step, source: Source) -> TrainState:
    """A fresh state at step 0, with that run's online encoder, and those of its heads, decoder and log-variances that
    have the same shapes here; or with a file's encoder alone. The target starts as a copy; optimiser, queue and centre
    are new.

    Raises UserError when its encoder has other shapes.
    """
    state = step.init_state()
    if isinstance(source, WeightFile):
        params, parts, whose = _of_file(step, state, source)
    else:
        params, parts, whose = _of_run(step, state, *source)
    fresh = [part for part in state.params if part not in parts]
    terminal.say(
        f"A new run, from the weights of {whose}: {', '.join(parts)}.\n"
        f"  new:      {', '.join([*fresh, 'optimiser', 'step 0'])}"
    )
    return jax.jit(step.method.new_state, out_shardings=step.state_sharding)(params, state.rng)


def _of_file(step: Step, state: TrainState, source: WeightFile) -> Taken:
    """The network is the one that the framework's authors evaluate, where the file holds two."""
    encoder = source.load(step.method.encoder, source.image_size or step.image_shape[:2])
    return state.params | {"encoder": encoder}, ["encoder"], str(source)


def _of_run(step: Step, state: TrainState, run: Path, number: int) -> Taken:
    with contextlib.closing(Checkpoints(run / run_files.CHECKPOINTS)) as checkpoints, resume.still_there(run, number):
        saved, wanted = checkpoints.shapes(number)["params"], state.params
        parts = [part for part in wanted if not state_shapes.differences(saved.get(part, {}), wanted[part])]
        if "encoder" not in parts:
            different = state_shapes.differences(saved["encoder"], wanted["encoder"])
            raise UserError(
                f"The encoder of the run {run} is another one. {different}"
                "  change:   --config.data.image_size, data.channels or encoder.KEY to that run's"
            )
        shapes, places = ({part: tree[part] for part in parts} for tree in (wanted, step.state_sharding.params))
        params = wanted | checkpoints.restore_part(number, {"params": shapes}, {"params": places})["params"]
    return params, parts, f"{run} at step {number}"


def _check_encoder(theirs: dict[str, Any], config: ConfigDict, source: str) -> None:
    before, ours = (methods.architecture(settings["encoder"]) for settings in (theirs, resume.plain(config)))
    lines = [
        f"  encoder.{key}: {before.get(key)!r} -> {ours.get(key)!r}\n"
        for key in methods.ARCHITECTURE
        if before.get(key) != ours.get(key)
    ]
    if lines:
        raise UserError(f"The {source} has another encoder:\n{''.join(lines)}  change:   --config.encoder.KEY=...")
