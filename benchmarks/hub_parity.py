"""Whether Hugging Face transformers sees in exported folders what we do: features of a fixed batch, and pixels.

  python -m benchmarks.hub_parity RUN/export/FOLDER ... [--python .venv-hub/bin/python]

PYTHON: an interpreter with transformers and PyTorch (requirements-transformers.txt); `make hub` makes that one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import repre_jax
from repre_jax.core.errors import UserError
from repre_jax.models.vit import ViT
from repre_jax.system import command_line
from repre_jax.tools.export import IN_FOLDER

TOLERANCE = 1e-4  # of features, relative to the largest; float32 sums in another order
PEER = Path(__file__).resolve().parent / "hub_peer.py"
LARGEST = 255.0


class Parity(NamedTuple):
    """Largest differences, relative to our largest value, of all tokens (a class token's, too), of pooled features, and
    of one image's normalised pixels; versions: of transformers and torch."""

    tokens: float
    pooled: float
    pixels: float
    versions: str


def compare(folders: Sequence[Path], python: str) -> list[Parity]:
    """What transformers gives of exported folders, by that interpreter, beside ours. Raises UserError when it fails."""
    with tempfile.TemporaryDirectory() as drafts:
        files = [(Path(drafts) / f"given{n}.npz", Path(drafts) / f"seen{n}.npz") for n in range(len(folders))]
        ours = [_ours(folder, given) for folder, (given, _) in zip(folders, files, strict=True)]
        paths = [str(path) for folder, pair in zip(folders, files, strict=True) for path in (folder, *pair)]
        # -P: or transformers would take benchmarks/kernels.py for the package of that name.
        done = subprocess.run(
            [python, "-P", str(PEER), *paths],
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip() or "nothing was said").splitlines()[-1]
            raise UserError(
                f"{python} did not open {', '.join(map(str, folders))}: {last}\n"
                "  change:   --python to an interpreter with requirements-transformers.txt, such as `make hub` makes"
            )
        return [_parity(one, dict(np.load(seen))) for one, (_, seen) in zip(ours, files, strict=True)]


def _ours(folder: Path, given: Path) -> dict[str, np.ndarray]:
    """Writes what both sides are given; what we make of it, by the names of benchmarks/hub_peer.py's output."""
    encoder, params, card = repre_jax.load_encoder(folder / IN_FOLDER)
    seen = card["preprocessing"]
    size, channels = tuple(seen["image_size"]), seen["channels"]
    rng = np.random.default_rng(5)
    images = rng.standard_normal((3, *size, channels), np.float32)
    # Of the size that an image has before its centre is cut, so that nothing is resized.
    before = [round(side / seen["test_crop"]) for side in size]
    pixels = rng.integers(0, 256, (*before, channels), np.uint8)
    np.savez(given, images=images.transpose(0, 3, 1, 2), pixels=pixels)

    output = jax.jit(encoder.apply)({"params": params}, images)
    tokens = np.asarray(output.tokens)
    if isinstance(encoder, ViT) and encoder.class_token:
        tokens = np.concatenate([output.cls[:, None], tokens], axis=1)
    top, left = ((whole - side) // 2 for whole, side in zip(before, size, strict=True))
    cut = pixels[top : top + size[0], left : left + size[1]].astype(np.float32) / LARGEST
    prepared = (cut - np.float32(seen["mean"])) / np.float32(seen["std"])
    return {"tokens": tokens, "pooled": np.asarray(output.pooled), "prepared": prepared.transpose(2, 0, 1)}


def _parity(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> Parity:
    tokens, pooled, pixels = (_difference(ours[name], theirs[name]) for name in ("tokens", "pooled", "prepared"))
    return Parity(tokens, pooled, pixels, str(theirs["versions"]))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        raise UserError(f"transformers gives {theirs.shape}, and ours is {ours.shape}.")
    return float(np.nan_to_num(np.abs(ours - theirs), nan=np.inf).max() / np.abs(ours).max())


def main() -> int:
    """Prints a line a folder; the exit status is 1 where one differs by more than TOLERANCE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--python", default=".venv-hub/bin/python")
    arguments = parser.parse_args()
    return command_line.exit_status(lambda: _print(arguments.folders, arguments.python), "Interrupted.")


def _print(folders: list[Path], python: str) -> None:
    for folder, found in zip(folders, compare(folders, python), strict=True):
        print(
            f"{folder}: tokens {found.tokens:.1e}, pooled {found.pooled:.1e}, pixels {found.pixels:.1e} "
            f"({found.versions}, jax {jax.__version__})"
        )
        if not max(found.tokens, found.pooled, found.pixels) <= TOLERANCE:
            raise UserError(f"{folder}: transformers sees something else.\n  expected: at most {TOLERANCE:g}, relative")


if __name__ == "__main__":
    sys.exit(main())
