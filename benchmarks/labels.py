"""What pre-training is worth with few labels: k-NN, linear probe, fine-tuning and training from scratch on 1 %, 10 %
and 100 % of the embedded digits' labels.

  python -m benchmarks.labels [--run runs/demo] [--workdir runs/labels] > benchmarks/labels.txt

Each is main.py's own task on the run's newest checkpoint, five times: with another choice of labelled images, as many
of each class, and another seed. Training takes the same number of steps whatever the share; of 10 labelled images all
vote. The test images are all of them throughout. Evaluations that are finished in the workdir are read, so that an
interrupted table goes on.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from repre_jax.report import console

SHARES = (0.01, 0.1, 1.0)
DRAWS = 5
STEPS = 600
# Without a held-out part: of ten images none can be spared to choose a learning rate.
LINEAR = (f"--config.total_steps={STEPS}", "--config.linear.held_out=0", "--config.linear.untrained=False")
METHODS = {
    "k-NN, k = 20": ("configs/knn.py", ("--config.knn.k=20",)),
    "linear, augmented": ("configs/linear.py:digits", LINEAR),
    "linear, cached": ("configs/linear.py:digits,cached", LINEAR),
    "fine-tuned": ("configs/finetune.py:digits", (f"--config.total_steps={STEPS}",)),
    "from scratch": ("configs/finetune.py:scratch,digits", (f"--config.total_steps={STEPS}",)),
}


def top1(config: str, settings: Sequence[str], run: Path, share: float, draw: int, workdir: Path) -> float:
    """Of one evaluation, done if need be. Its output goes to stderr; one that fails ends everything."""
    folder = workdir / f"{Path(config).name.replace('.py', '').replace(':', '-').replace(',', '-')}-{share:g}-{draw}"
    choice = [f"--config.data.labels={share}", f"--config.data.draw={draw}", f"--config.seed={draw}"]
    command = [sys.executable, "main.py", "--config", config, f"--config.init_from={run}", "--workdir", str(folder)]
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(workdir / "compiled")}
    done = subprocess.run([*command, *choice, *settings], check=False, stdout=sys.stderr, env=variables)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed with status {done.returncode}.")
    result = json.loads((folder / "result.json").read_text())
    return next(iter(result["knn_top1"].values())) if result["task"] == "knn" else result["top1"]


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation, in percent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--workdir", type=Path, default=Path("runs/labels"))
    arguments = parser.parse_args()
    if not (arguments.run / "checkpoints").is_dir():
        raise SystemExit(f"{arguments.run} holds no run.\n  change:   make demo, or --run RUN")

    lines = []
    for name, (config, settings) in METHODS.items():
        cells = []
        for share in SHARES:
            values = [top1(config, settings, arguments.run, share, draw, arguments.workdir) for draw in range(DRAWS)]
            cells.append(cell(values))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print(
        f"{datetime.date.today()}, {console.devices()} ({console.machine()}), Python {platform.python_version()}, "
        f"jax {jax.__version__}; top-1 in percent, mean and standard deviation of {DRAWS} draws; {STEPS} steps each\n"
    )
    print(f"| on digits | {' | '.join(f'{share:.0%} of the labels' for share in SHARES)} |")
    print(f"|---|{'---|' * len(SHARES)}")
    print("\n".join(lines))


if __name__ == "__main__":
    run()
