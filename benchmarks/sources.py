"""Which code measured something: known by its files, so that results may be committed in between."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("main.py", "Makefile", "repre_jax/**/*.py", "configs/*.py", "benchmarks/*.py", "tests/**/*.py")


def digest(root: Path = ROOT) -> str:
    """SHA-256 of names and contents."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in CODE for path in root.glob(pattern)}):
        found.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return found.hexdigest()
