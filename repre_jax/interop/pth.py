"""PyTorch's zip checkpoints, read with neither PyTorch nor the code that a pickle may ask for.

A .pth file is a zip of one pickle and one file of raw numbers per storage. Unpickling calls whatever the pickle names;
here a name stands for one of a handful of functions that build arrays, or else for an inert object that swallows
everything, so that argparse namespaces, configs and schedulers lying beside the tensors cost nothing and do nothing.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from repre_jax.core.errors import UserError

# torch.<name> -> NumPy's dtype; bfloat16 has none and is widened from its bits.
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array in the file under the names on its way, joined by dots. Raises UserError for a file before 2020."""
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a zip file: damaged, or written before PyTorch 1.6.\n"
            "  change:   write it anew with PyTorch, if you trust it:\n"
            f"            python -c \"import torch; torch.save(torch.load('{path}', map_location='cpu'), 'new.pth')\""
        )
    with zipfile.ZipFile(path) as archive:
        (index,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(index) as file:
            tree = _Unpickler(file, archive, index.removesuffix("data.pkl")).load()
    return dict(_arrays(tree, ()))


class _Inert:
    """Stands in for any class or function that a checkpoint names and that arrays don't need."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _swallow(self, *_: Any, **__: Any) -> "_Inert":
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _swallow


class _Unpickler(pickle.Unpickler):
    """Knows OrderedDict and arrays, nothing else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file, encoding="utf-8")
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        return KNOWN.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> np.ndarray:
        """One storage, flat: pid is ('storage', type, file, device, count)."""
        _, dtype, file, _, _ = pid
        data = self.archive.read(f"{self.folder}data/{file}")
        if dtype == "bfloat16":
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(data, dtype)


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    """A view of a storage, copied; strides count elements. A file that reaches outside its storage is refused."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if min(offset, *strides, 0) < 0 or last >= len(storage):
        raise ValueError("a tensor lies outside its storage")
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides).copy()


def _parameter(data: Any, *_: Any) -> Any:
    return data


KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _arrays(tree: Any, path: tuple[str, ...]):
    """(joined name, array) of every array in nested dictionaries and lists."""
    if isinstance(tree, np.ndarray):
        yield ".".join(path), tree
    elif isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from _arrays(value, (*path, str(key)))
