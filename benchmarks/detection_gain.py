"""What pre-training is worth to detection on scenes/dense: box and mask AP by seed, beside training from scratch.

  python -m benchmarks.detection_gain --runs RUN [RUN ...] [--seeds 3] [--workdir runs/detection-gain] \\
      > benchmarks/detection_gain.txt

RUN: pre-trainings of one architecture, for example with and without RePre. For each seed main.py trains
configs/detect.py:scenes on each of them and from scratch, as long. The seed is that of the heads, the samples, the
mirror images and the order of images, and from scratch of the encoder; that of the pre-training does not vary. What
benchmarks/segmentation_gain.py says of differences, their standard errors and interrupted tables holds here, too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import segmentation_gain, segmentation_table
from benchmarks.segmentation_gain import SCRATCH, Row
from benchmarks.segmentation_table import Score
from repre_jax.core import run_files
from repre_jax.system import command_line

CONFIG = "configs/detect.py"
SCORES = (Score("box_ap", "box AP"), Score("mask_ap", "mask AP"), Score("box_ap50", "box AP50"))


def rows(runs: Sequence[Path], tiny: bool) -> list[Row]:
    """All that is trained. From scratch is of the first run's architecture, which is that of all."""
    variants = "scenes" + ",tiny" * tiny
    return [
        *(Row(_pre_trained(run), run, variants, CONFIG) for run in runs),
        Row(SCRATCH, runs[0], f"{variants},scratch", CONFIG),
    ]


def _pre_trained(run: Path) -> str:
    return f"{run.name}, pre-trained"


def pairs(runs: Sequence[Path]) -> list[tuple[str, str]]:
    """Names of rows, of which the second is subtracted from the first; with RePre minus without where there is one run
    of each."""
    found = [(_pre_trained(run), SCRATCH) for run in runs]
    enabled = [run_files.flat(run_files.read_config(run) or {}).get("repre.enabled") for run in runs]
    if enabled.count(True) == enabled.count(False) == 1:
        found.append((_pre_trained(runs[enabled.index(True)]), _pre_trained(runs[enabled.index(False)])))
    return found


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ...")
    parser.add_argument("--workdir", type=Path, default=Path("runs/detection-gain"))
    parser.add_argument("--tiny", action="store_true", help="four steps a run: does it work?")
    arguments = parser.parse_args()
    segmentation_gain.check(arguments.runs)
    found = segmentation_gain.trained(rows(arguments.runs, arguments.tiny), arguments.seeds, arguments.workdir)
    print("\n".join(segmentation_table.lines(found, pairs(arguments.runs), arguments.runs, SCORES, "detection")))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted; the same command goes on."))
