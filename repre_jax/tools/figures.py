"""Draws what a config's network sees.

  python -m repre_jax.tools.figures augmentations --config configs/moco_vit_s.py:digits [--records 6] [--out FILE]

The first records of the run's first batch, after all augmentations and before normalisation: what RePre rebuilds.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from repre_jax.core import command_line
from repre_jax.core.errors import UserError
from repre_jax.data import loader
from repre_jax.report import figures
from repre_jax.tasks import setup


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("augmentations",))
    parser.add_argument("--records", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("augmentations.png"), help="a .png or .pdf")
    arguments, rest = parser.parse_known_args(argv)
    return command_line.exit_status(lambda: _augmentations(arguments, rest), "Interrupted; nothing was drawn.")


def _augmentations(arguments: argparse.Namespace, config_flags: Sequence[str]) -> None:
    out = arguments.out
    config, _ = command_line.parse(["main.py", *config_flags])
    if arguments.records < 1:
        raise UserError(f"--records is {arguments.records}.\n  expected: at least 1")
    if out.suffix not in (".png", ".pdf") or not out.absolute().parent.is_dir():
        raise UserError(f"--out is {out}.\n  expected: a .png or .pdf in a folder that exists")
    setup.check(config)
    job = setup.build(config)
    batches = loader.train_batches(
        job.dataset.train, job.train_view, batch_size=arguments.records, start_step=0, workers=0
    )
    pixels = jax.jit(job.method.augment)(jax.random.PRNGKey(config.seed), 0, next(batches))
    figures.augmentations(out, np.asarray(pixels.views), None if pixels.local is None else np.asarray(pixels.local))
    print(f"Drawn: {out}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
