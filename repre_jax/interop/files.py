"""Files of named arrays: safetensors, npz, and PyTorch's .pth, which is read without PyTorch and runs no code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import load, load_file, save

from repre_jax.core import buckets, config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.interop import pth


def read(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a .safetensors, .npz or .pth file (also .pt, .bin, .pth.tar) by name.

    Nested dictionaries of a .pth file are joined by dots: {'model': {'norm.weight': w}} gives 'model.norm.weight'.
    bfloat16 becomes float32, other dtypes stay.

    Raises UserError when the file is missing, damaged or of another kind.
    """
    path = config_paths.typed(path)
    kind = path.with_suffix("").suffix if path.suffix == ".tar" else path.suffix
    if kind not in READERS:
        raise UserError(f"The weights file {path} is of an unknown kind.\n  expected: {', '.join(READERS)}")
    if not run_files.is_file(path):
        raise UserError(f"The weights file {path} does not exist.")
    try:
        arrays = READERS[kind](path)
    except UserError:
        raise
    except Exception as error:  # damaged files fail in every way
        raise UserError(f"The weights file {path} cannot be read: {type(error).__name__}: {error}") from None
    return {name: _widened(array) for name, array in arrays.items()}


def write(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Writes a .safetensors or .npz file, as its name says; bfloat16 as float32, since npz has no bfloat16.

    metadata: texts by name for the header of a .safetensors file; of an .npz file, which has none, they are left out.

    Raises UserError for another name, a folder that does not exist, or when it cannot be written, as on a full disk.
    """
    path = config_paths.typed(path)
    if path.suffix not in WRITERS:
        raise UserError(f"Weights cannot be written to {path}.\n  expected: a name ending in {' or '.join(WRITERS)}")
    if not (buckets.holds(path) or run_files.is_folder(path.parent)):
        raise UserError(f"Weights cannot be written to {path}: the folder does not exist.")
    whole = {name: np.asarray(_widened(array), order="C") for name, array in arrays.items()}
    try:
        with run_files.open_file(path, "wb") as file:
            WRITERS[path.suffix](file, whole, metadata)
    except OSError as error:
        raise UserError(f"Weights cannot be written to {path}: {error.strerror or error}.") from None


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    return load(run_files.read_bytes(path)) if buckets.holds(path) else load_file(path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with run_files.open_file(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _write_npz(file: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None) -> None:
    del metadata
    named: dict[str, Any] = {**arrays}
    np.savez(file, **named)


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": pth.read,
    ".pt": pth.read,
    ".bin": pth.read,
}
WRITERS: dict[str, Callable[[BinaryIO, dict[str, np.ndarray], dict[str, str] | None], object]] = {
    ".safetensors": lambda file, arrays, metadata: file.write(
        save(arrays, metadata)
    ),  # save_file's are the owner's alone to read
    ".npz": _write_npz,
}
