"""What pre-training is worth to segmentation on scenes/dense: mIoU by seed, beside training from scratch.

  python -m benchmarks.segmentation_gain --runs RUN [RUN ...] [--seeds 3] [--workdir runs/segmentation-gain] \\
      > benchmarks/segmentation_gain.txt

RUN: pre-trainings of one architecture, for example with and without RePre. For each seed main.py trains
configs/segment.py:scenes on each of them and from scratch, as long, and `:linear` on each of them and on an encoder
that was never trained, both frozen. The seed is that of the head, the crops and the order of images, and of the weights
where there are no trained ones; that of the pre-training does not vary, so that nothing here tells how much another
pre-training would differ.

Differences are paired by seed; their standard error is the sample standard deviation / sqrt(seeds). Of three seeds two
of it are little: where there is no difference at all, 9 % of such tables still show two or more (Student's t, 2 degrees
of freedom).

Each run has a process of its own and a folder in the workdir; finished ones are read there and others go on, so that
the same command finishes an interrupted table.
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import segmentation_table
from benchmarks.segmentation_table import Trained
from repre_jax.builders.methods import architecture
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.report.run import read
from repre_jax.system import command_line

CONFIG = "configs/segment.py"
HEADS = ("naive", "pup", "mla", "fpn")
SCRATCH, UNTRAINED = "from scratch", "untrained, frozen, linear"
PROCESSOR = "processor_seconds.json"  # in the workdir


@dataclass(frozen=True)
class Row:
    """A row of the table: what is trained, for each seed, on the encoder of `run` by these variants of a config."""

    name: str
    run: Path
    variants: str
    config: str = CONFIG

    def folder(self, seed: int) -> str:
        return f"{self.run.name}-{self.variants.replace(',', '-')}-{seed}"


def rows(runs: Sequence[Path], head: str, tiny: bool) -> list[Row]:
    """All that is trained. From scratch and untrained are of the first run's architecture, which is that of all."""
    small = ",tiny" * tiny
    fine_tuned, linear = f"scenes,{head}{small}", f"scenes,linear{small}"
    return [
        *(Row(_fine_tuned(run), run, fine_tuned) for run in runs),
        Row(SCRATCH, runs[0], f"{fine_tuned},scratch"),
        *(Row(_linear(run), run, linear) for run in runs),
        Row(UNTRAINED, runs[0], f"{linear},scratch"),
    ]


def _fine_tuned(run: Path) -> str:
    return f"{run.name}, fine-tuned"


def _linear(run: Path) -> str:
    return f"{run.name}, frozen, linear"


def pairs(runs: Sequence[Path]) -> list[tuple[str, str]]:
    """Names of rows, of which the second is subtracted from the first; with RePre minus without where there is one run
    of each."""
    found = [(_fine_tuned(run), SCRATCH) for run in runs] + [(_linear(run), UNTRAINED) for run in runs]
    enabled = [run_files.flat(run_files.read_config(run) or {}).get("repre.enabled") for run in runs]
    if enabled.count(True) == enabled.count(False) == 1:
        having, lacking = runs[enabled.index(True)], runs[enabled.index(False)]
        found += [(_fine_tuned(having), _fine_tuned(lacking)), (_linear(having), _linear(lacking))]
    return found


def check(runs: Sequence[Path]) -> None:
    """Raises UserError for what is no run, and for two that are called the same or have different encoders."""
    architectures = []
    for run in runs:
        config = run_files.read_config(run, ("encoder",))
        if config is None or not run_files.has_checkpoints(run):
            raise UserError(f"{run} holds no run.\n  expected: --runs with workdirs of pre-training runs")
        architectures.append(architecture(config["encoder"]))
        if architectures[-1] != architectures[0]:
            raise UserError(f"{runs[0]} and {run} have different encoders.\n  change:   give each a table of its own")
    if len({run.name for run in runs}) < len(runs):
        raise UserError("Two runs are called the same, and rows and folders are named by them.\n  change:   rename one")


def train(row: Row, seed: int, workdir: Path) -> Trained:
    """The row's run of that seed, trained if need be, or to its end. Its output goes to stderr; one that fails ends
    everything."""
    folder = workdir / row.folder(seed)
    command = [sys.executable, "main.py", "--config", f"{row.config}:{row.variants}", f"--config.init_from={row.run}"]
    command += [f"--config.seed={seed}", "--workdir", str(folder)]
    finished = (folder / run_files.RESULT).exists()  # then this only looks whether it is of the same weights and data
    status = _ended(command) if finished else _timed(command, workdir / PROCESSOR, folder.name)
    if status:
        raise UserError(f"{shlex.join(command[1:])} ended with status {status}.")
    return Trained(read(folder), seconds(workdir, folder.name))


def seconds(workdir: Path, name: str) -> float | None:
    """Processor seconds of all starts of a run; None where it was not started from here, or a start was not seen to its
    end."""
    starts = _starts(workdir / PROCESSOR).get(name, [None])
    known = [each for each in starts if each is not None]
    return sum(known) if len(known) == len(starts) else None


def _timed(command: Sequence[str], record: Path, name: str) -> int:
    """The command's exit status. Its processor seconds go to `record`, where a start whose end nobody saw is null."""
    starts = _starts(record)
    mine = starts.setdefault(name, [])
    mine.append(None)
    run_files.replace(record, json.dumps(starts, indent=1))
    before = _spent()
    try:
        return _ended(command)
    finally:
        mine[-1] = _spent() - before
        run_files.replace(record, json.dumps(starts, indent=1))


def _ended(command: Sequence[str]) -> int:
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # it has had the Ctrl-C, too, and saves what is done
        raise


def _starts(record: Path) -> dict[str, list[float | None]]:
    return json.loads(record.read_text()) if record.exists() else {}


def _spent() -> float:
    """Processor seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def trained(plan: Sequence[Row], seeds: int, workdir: Path) -> dict[str, list[Trained]]:
    """Each row's runs, by its name, in the order of the seeds."""
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}.\n  expected: at least 1")
    workdir.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Trained]] = {row.name: [] for row in plan}
    for seed in range(seeds):  # so that an interrupted table has whole pairs
        for row in plan:
            found[row.name].append(train(row, seed, workdir))
    return found


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ...")
    parser.add_argument("--workdir", type=Path, default=Path("runs/segmentation-gain"))
    parser.add_argument("--head", choices=HEADS, default="naive", help="of what is not linear; of a Swin fpn")
    parser.add_argument("--tiny", action="store_true", help="four steps a run: does it work?")
    arguments = parser.parse_args()
    check(arguments.runs)
    found = trained(rows(arguments.runs, arguments.head, arguments.tiny), arguments.seeds, arguments.workdir)
    print("\n".join(segmentation_table.lines(found, pairs(arguments.runs), arguments.runs)))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted; the same command goes on."))
