"""Checkpoints by orbax: the whole state, and beside it a JSON record (config, data identity, time spent).

The only module that knows orbax.
"""

import os
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState


class Checkpoints:
    """The checkpoints of one run, in `directory`/<step>; the newest `keep` stay. Saving runs in the background."""

    def __init__(self, directory: str | os.PathLike, keep: int = 2):
        logging.set_verbosity(logging.ERROR)  # orbax reports every detail of every save
        # orbax accepts a relative path and then fails at the first save, hence absolute().
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            item_names=("state", "record"),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, None when there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Copies the state off the devices, then writes it in the background; a step saved before is kept."""
        if step == self.latest_step():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))
        self._manager.save(step, args=items)

    def record(self, step: int) -> dict[str, Any]:
        """The JSON record saved with `step`. Raises UserError when the checkpoint lacks a part."""
        for part in ("state", "record"):
            if not (self._manager.directory / str(step) / part).is_dir():
                raise UserError(
                    f"Checkpoint {step} in {self._manager.directory} is damaged: its {part} is missing.\n"
                    f"  change:   delete {self._manager.directory / str(step)}, to go on from the one before it"
                )
        return self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record

    def restore(self, step: int, like: TrainState, shardings: TrainState) -> TrainState:
        """The state at `step`, shaped `like` and laid out by `shardings`, whatever devices it was saved from."""
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like, shardings)
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))).state

    def close(self) -> None:
        """Waits until everything is on disk. Without it the last checkpoint may be lost."""
        self._manager.wait_until_finished()
        self._manager.close()
