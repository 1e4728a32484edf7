"""Every framework, with and without RePre, trained on an embedded data set: what pre-training does to accuracy.

  python -m benchmarks.frameworks [--workdir runs/frameworks] > benchmarks/frameworks.txt
  python -m benchmarks.frameworks --data scenes --only moco_v3 dino > benchmarks/frameworks_scenes.txt

Runs `main.py --config configs/NAME.py:digits` and `:digits,baseline`, in turns, and the linear probe of each on cached
features (`configs/linear.py:digits,cached`), each in a process of its own; runs that are finished in the workdir are
read, so that an interrupted table goes on. Seed 0, one run each. Times are what pre-training took of the processor,
user and system of all cores, since machines are shared; they are kept beside each run.
"""

import argparse
import datetime
import importlib
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import jax

from repre_jax.frameworks import FRAMEWORKS
from repre_jax.report import console

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SPENT = "processor_seconds.json"  # in a run's workdir; one that this did not train in one go has none
WITHOUT_LEARNING = {"raw pixels": "knn_top1_pixels", "HOG": "knn_top1_hog"}


def variants(data: str) -> dict[str, str]:
    """Without and with RePre."""
    return {"without": f"{data},baseline", "with": data}


def frameworks(only: Collection[str] = ()) -> dict[str, str]:
    """Title of each framework, or of those in `only` -> its config for ViT-S, in the order of the files' names."""
    names = sorted(path.stem for path in CONFIGS.glob("*_vit_s.py"))
    configs = {name: importlib.import_module(f"configs.{name}").get_config() for name in names}
    wanted = {name: config.framework.name for name, config in configs.items()}
    return {FRAMEWORKS[own].title: name for name, own in wanted.items() if not only or own in only}


def results_of(config: str, variant: str, workdir: Path) -> tuple[dict, dict]:
    """What one pre-training and its linear probe came to, both run if need be."""
    folder = workdir / f"{config}-{variant.replace(',', '-')}"
    fresh, before = not folder.exists(), spent_by_children()
    trained = result_of(f"configs/{config}.py:{variant}", folder)
    if fresh:
        (folder / SPENT).write_text(json.dumps(spent_by_children() - before))
    seconds = json.loads((folder / SPENT).read_text()) if (folder / SPENT).exists() else None
    data = variant.split(",")[0]
    of_run = (f"--config.init_from={folder}",)
    probed = result_of(f"configs/linear.py:{data},cached", folder.with_name(f"{folder.name}-linear"), *of_run)
    return trained | {"processor_seconds": seconds}, probed


def result_of(config: str, folder: Path, *flags: str) -> dict:
    """result.json of one run, made if need be. Its output goes to stderr; a run that fails ends everything."""
    command = [sys.executable, "main.py", "--config", config, *flags, "--workdir", str(folder)]
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed with status {done.returncode}.")
    return json.loads((folder / "result.json").read_text())


def spent_by_children() -> float:
    """Processor seconds of the processes that this one has started and that have ended, user and system."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def row(framework: str, repre: str, result: dict, probed: dict) -> str:
    """A line of the table, from what results_of returns."""
    l1, seconds = result["reconstruction_l1"], result.get("processor_seconds")
    cells = (
        framework,
        repre,
        f"{result['knn_top1_untrained']:.1%}",
        f"{result['knn_top1']:.1%}",
        f"{probed['top1_untrained']:.1%}",
        f"{probed['top1']:.1%}",
        "-" if l1 is None else f"{l1:.4f}",
        f"{result['steps']:,}",
        "-" if seconds is None else console.duration(seconds),
    )
    return f"| {' | '.join(cells)} |"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/frameworks"))
    parser.add_argument("--data", choices=("digits", "scenes"), default="digits")
    parser.add_argument("--only", nargs="+", choices=FRAMEWORKS, default=(), metavar="FRAMEWORK")
    arguments = parser.parse_args()

    lines = []
    for name, config in frameworks(arguments.only).items():
        for repre, variant in variants(arguments.data).items():
            result, probed = results_of(config, variant, arguments.workdir)
            lines.append(row(name, repre, result, probed))
    beside = [f"{name} {result[key]:.1%}" for name, key in WITHOUT_LEARNING.items() if result.get(key) is not None]
    print(
        f"{datetime.date.today()}, {console.devices()} ({console.machine()}), Python {platform.python_version()}, ",
        end="",
    )
    data_set = f"{result['data_set']['name']} {result['data_set']['version']}"
    print(f"jax {jax.__version__}; {data_set}, seed 0; k-NN without learning: {', '.join(beside)}\n")
    print("| framework | RePre | k-NN untrained | k-NN | linear untrained | linear | L1 | steps | processor time |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    run()
