"""Starting a new run from the weights of another one."""

import contextlib
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.core.checkpoint import Checkpoints, flat_shapes
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.tasks import history
from repre_jax.tasks.setup import Job

# Keys of config.encoder that a forward pass depends on and shapes do not always tell apart.
ARCHITECTURE = ("name", "flavour", "patch", "width", "depth", "heads", "window")


def find(config: ConfigDict, workdir: Path) -> tuple[Path, int]:
    """The run that config.init_from names, and the step of its newest whole checkpoint.

    Raises UserError when there is none, or its encoder is another one by its config.
    """
    source = Path(config.init_from).expanduser().absolute()
    if source == workdir:
        raise UserError(
            f"init_from is the run's own workdir, {workdir}.\n"
            "  change:   --workdir, for a new run with these weights; without init_from a run goes on by itself"
        )
    with contextlib.closing(Checkpoints(source / "checkpoints")) as checkpoints:
        step, _ = checkpoints.newest_whole()
        if step is None:
            raise UserError(
                f"There is no whole checkpoint in {source / 'checkpoints'}.\n  change:   --config.init_from=RUN, the "
                "workdir of another run"
            )
        _check_encoder(checkpoints.record(step)["config"], config, source)
    return source, step


def start_from(config: ConfigDict, job: Job, workdir: Path) -> TrainState:
    """A fresh state at step 0, with the online encoder of the run config.init_from, and those of its heads, decoder and
    log-variances that have the same shapes here. The target starts as a copy; optimiser, queue and centre are new.

    Raises UserError when there is no such run, or its encoder is another one.
    """
    source, step = find(config, workdir)
    state = job.init_state()
    with contextlib.closing(Checkpoints(source / "checkpoints")) as checkpoints:
        saved, wanted = checkpoints.shapes(step)["params"], state.params
        parts = [part for part in wanted if flat_shapes(saved.get(part, {})) == flat_shapes(wanted[part])]
        if "encoder" not in parts:
            raise UserError(_other_shapes(saved["encoder"], wanted["encoder"], source))
        shapes, places = ({part: tree[part] for part in parts} for tree in (wanted, job.state_sharding.params))
        params = wanted | checkpoints.restore_part(step, {"params": shapes}, {"params": places})["params"]
    fresh = [part for part in wanted if part not in parts]
    print(
        f"A new run, from the weights of {source} at step {step}: {', '.join(parts)}.\n"
        f"  new:      {', '.join([*fresh, 'optimiser', 'step 0'])}",
        flush=True,
    )
    return jax.jit(job.method.new_state, out_shardings=job.state_sharding)(params, state.rng)


def _check_encoder(theirs: dict[str, Any], config: ConfigDict, source: Path) -> None:
    ours = history.plain(config)
    lines = [
        f"  encoder.{key}: {theirs['encoder'].get(key)!r} -> {ours['encoder'].get(key)!r}\n"
        for key in ARCHITECTURE
        if theirs["encoder"].get(key) != ours["encoder"].get(key)
    ]
    if lines:
        raise UserError(f"The run {source} has another encoder:\n{''.join(lines)}  change:   --config.encoder.KEY=...")


def _other_shapes(saved: dict[str, Any], wanted: dict[str, Any], source: Path) -> str:
    saved, wanted = flat_shapes(saved), flat_shapes(wanted)
    lines = [
        f"  {path}: {saved.get(path, 'none')} -> {wanted.get(path, 'none')}\n"
        for path in sorted(saved | wanted)
        if saved.get(path) != wanted.get(path)
    ]
    return (
        f"The encoder of the run {source} has tensors of other shapes, {len(lines)} in all:\n{''.join(lines[:8])}"
        "  change:   --config.data.image_size, data.channels or encoder.KEY to that run's"
    )
