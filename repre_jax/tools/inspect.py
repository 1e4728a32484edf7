"""Prints what a run's folder holds: its checkpoints, the newest one's parts and sizes, its data and its config.

  python -m repre_jax.tools.inspect RUN [--step 4000] [--verify]

Nothing is loaded onto a device, so that any machine will do, and nothing is changed.
"""

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from repre_jax.core import config_paths, manifest, run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.system import command_line

SCALARS = 2  # parts of no more numbers are counters and the key


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=config_paths.argument, help="the workdir of a run")
    parser.add_argument("--step", type=int, help="of the checkpoint to look into; else the newest whole one")
    parser.add_argument("--verify", action="store_true", help="compare every checkpoint's files with its manifest")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")  # orbax asks JAX which process this is
    return command_line.exit_status(lambda: _run(arguments), "Interrupted.")


def _run(arguments: argparse.Namespace) -> None:
    try:
        _inspect(arguments)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} has gone while it was read: the run trains on. Ask again.") from None


def _inspect(arguments: argparse.Namespace) -> None:
    run = config_paths.absolute(arguments.run)
    if not run_files.has_checkpoints(run):
        raise UserError(f"{run} holds no run: it has no folder checkpoints.\n  expected: the --workdir of a run")
    with contextlib.closing(Checkpoints(run / run_files.CHECKPOINTS)) as checkpoints:
        measures = checkpoints.measures()
        newest, ignored = checkpoints.newest_whole()
        print(f"Checkpoints in {checkpoints.directory}:")
        print(console.table([*_listed(checkpoints, measures, newest, arguments.verify), *_not_whole(ignored)]))
        step = newest if arguments.step is None else arguments.step
        if step is None:
            raise UserError("None of them is whole.")
        if step not in measures:
            raise UserError(f"There is no checkpoint {step}.\n  expected: one of {', '.join(map(str, measures))}")
        fault = checkpoints.fault(step)
        if fault:
            raise UserError(f"Checkpoint {step} is damaged: {fault}.\n  change:   --step to another one")
        print(f"\nCheckpoint {step}:")
        print(console.table(_contents(checkpoints.shapes(step), checkpoints.record(step))))
        config = run_files.flat(checkpoints.record(step)["config"])
        print(f"\nIts config:\n{console.table([(key, str(value)) for key, value in config.items()])}")
    starts = run_files.read_metrics(run / run_files.STARTS)
    if starts:
        print(f"\nStarts of this run:\n{console.table([_start(row) for row in starts])}")


def _listed(
    checkpoints: Checkpoints, measures: Mapping[int, float | None], newest: int | None, verify: bool
) -> list[console.Row]:
    """A row a finished checkpoint."""
    rows = []
    for step, measure in measures.items():
        folder = checkpoints.directory / str(step)
        fault = checkpoints.fault(step) if verify else None
        state = f"damaged: {fault}" if fault else "whole" if verify or step == newest else "finished, not verified"
        measured = "" if measure is None else f", online measure {measure:.4g}"
        rows.append((str(step), f"{console.size(manifest.size(folder))}, {state}{measured}"))
    return rows


def _not_whole(ignored: Sequence[Any]) -> list[console.Row]:
    return [(item.folder.name, f"not whole: {item.why}, or is still going on") for item in ignored]


def _contents(state: Mapping[str, Any], record: Mapping[str, Any]) -> list[console.Row]:
    """Parts of the state and what they take, the data's identity and the time."""
    rows = [("parameters", console.parameter_counts(state["params"]))]
    for part, tree in state.items():
        leaves = jax.tree.leaves(tree)
        count = sum(int(np.prod(leaf.shape)) for leaf in leaves)
        held = sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
        if count > SCALARS:
            rows.append((part, f"tensors: {len(leaves)}, numbers: {count:,}, {console.size(held)}"))
    data = ", ".join(f"{key} {value}" for key, value in record["data"].items())
    return [*rows, ("data set", data), ("trained for", console.duration(record["seconds"]))]


def _start(row: Mapping[str, Any]) -> console.Row:
    version = row.get("versions", {}).get("jax")
    return row.get(
        "time", ""
    ), f"from step {row['step']}, {row.get('devices')}, jax {version}, commit {row.get('commit')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
