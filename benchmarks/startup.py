"""How long a start takes: importing the package, and from `python main.py` to the first finished step.

  python -m benchmarks.startup [--config configs/moco_vit_s.py:digits] [--starts 3]

The first start compiles and fills a compile cache of its own, empty before; the next ones find their programs there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from repre_jax.core import run_files
from repre_jax.system import command_line

IMPORTS = ("import repre_jax", "import repre_jax.tasks.pretrain", "import main")


def first_step(config: str, cache: Path, workdir: Path) -> float:
    """Seconds until step 1 stands in metrics.jsonl. Raises RuntimeError when the run ends without it."""
    command = [sys.executable, "main.py", "--config", config, "--workdir", str(workdir)]
    variables = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    begun = time.perf_counter()
    run = subprocess.Popen(
        [*command, "--config.total_steps=1", "--config.log_every=1"],
        env=variables | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    while not any(row["step"] == 1 for row in run_files.read_metrics(workdir / "metrics.jsonl")):
        if run.poll() is not None and not run_files.read_metrics(workdir / "metrics.jsonl"):
            raise RuntimeError(f"{' '.join(command)} ended with status {run.returncode}")
        time.sleep(0.02)
    seconds = time.perf_counter() - begun
    run.wait()
    return seconds


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py:digits")
    parser.add_argument("--starts", type=int, default=3)
    arguments = parser.parse_args()
    for statement in IMPORTS:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        print(f"{statement:<34} {time.perf_counter() - begun:6.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, arguments.starts + 1):
            seconds = first_step(arguments.config, Path(folder) / "cache", Path(folder) / f"run{number}")
            print(f"start {number} of {arguments.config}, to its first step  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
