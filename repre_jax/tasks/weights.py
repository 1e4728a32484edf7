"""Starting a new run from the weights of another one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.core.checkpoint import Checkpoints, differences
from repre_jax.core.errors import UserError
from repre_jax.core.metrics import read_metrics
from repre_jax.core.types import TrainState
from repre_jax.tasks import history
from repre_jax.tasks.setup import Job

# Keys of config.encoder that a forward pass depends on and shapes do not always tell apart.
ARCHITECTURE = ("name", "flavour", "patch", "width", "depth", "heads", "window")


Source = tuple[Path, int]  # a run's workdir, and the step of one of its checkpoints


def find(config: ConfigDict, workdir: Path) -> Source:
    """The run that config.init_from names, and its newest whole checkpoint: the one of this run's earlier starts, if
    that is still there.

    Raises UserError when there is none, or its encoder is another one by its config.
    """
    source = Path(config.init_from).expanduser().absolute()
    if source == workdir:
        raise UserError(
            f"init_from is the run's own workdir, {workdir}.\n"
            "  change:   --workdir, for a new run with these weights; without init_from a run goes on by itself"
        )
    before = [row["init_step"] for row in read_metrics(workdir / "starts.jsonl") if row.get("init_from") == str(source)]
    with contextlib.closing(Checkpoints(source / "checkpoints")) as checkpoints:
        again = before and before[0] in checkpoints.measures() and checkpoints.fault(before[0]) is None
        step = before[0] if again else checkpoints.newest_whole()[0]
        if step is None:
            raise UserError(
                f"There is no whole checkpoint in {source / 'checkpoints'}.\n  change:   --config.init_from=RUN, the "
                "workdir of another run"
            )
        _check_encoder(checkpoints.record(step)["config"], config, source)
    return source, step


def start_from(job: Job, weights_of: Source) -> TrainState:
    """A fresh state at step 0, with that run's online encoder, and those of its heads, decoder and log-variances that
    have the same shapes here. The target starts as a copy; optimiser, queue and centre are new.

    Raises UserError when its encoder has other shapes.
    """
    source, step = weights_of
    state = job.init_state()
    with contextlib.closing(Checkpoints(source / "checkpoints")) as checkpoints, _still_there(source, step):
        saved, wanted = checkpoints.shapes(step)["params"], state.params
        parts = [part for part in wanted if not differences(saved.get(part, {}), wanted[part])]
        if "encoder" not in parts:
            raise UserError(
                f"The encoder of the run {source} is another one. {differences(saved['encoder'], wanted['encoder'])}"
                "  change:   --config.data.image_size, data.channels or encoder.KEY to that run's"
            )
        shapes, places = ({part: tree[part] for part in parts} for tree in (wanted, job.state_sharding.params))
        params = wanted | checkpoints.restore_part(step, {"params": shapes}, {"params": places})["params"]
    fresh = [part for part in wanted if part not in parts]
    print(
        f"A new run, from the weights of {source} at step {step}: {', '.join(parts)}.\n"
        f"  new:      {', '.join([*fresh, 'optimiser', 'step 0'])}",
        flush=True,
    )
    return jax.jit(job.method.new_state, out_shardings=job.state_sharding)(params, state.rng)


@contextlib.contextmanager
def _still_there(source: Path, step: int) -> Iterator[None]:
    """A run that trains on removes its older checkpoints."""
    try:
        yield
    except (OSError, ValueError):
        if (source / "checkpoints" / str(step)).is_dir():
            raise
        raise UserError(
            f"Checkpoint {step} of {source} was removed meanwhile, by that run.\n"
            "  change:   start again, to take its newest one; or keep more of them there, by checkpoint.keep_every"
        ) from None


def _check_encoder(theirs: dict[str, Any], config: ConfigDict, source: Path) -> None:
    ours = history.plain(config)
    lines = [
        f"  encoder.{key}: {theirs['encoder'].get(key)!r} -> {ours['encoder'].get(key)!r}\n"
        for key in ARCHITECTURE
        if theirs["encoder"].get(key) != ours["encoder"].get(key)
    ]
    if lines:
        raise UserError(f"The run {source} has another encoder:\n{''.join(lines)}  change:   --config.encoder.KEY=...")
