"""PyTorch's zip checkpoints, read with neither PyTorch nor the code that a pickle may ask for.

A .pth file is a zip of one pickle and one file of raw numbers per storage. Unpickling calls whatever the pickle names;
here a name stands for one of a handful of objects that build arrays, or else for an inert one that swallows everything,
so that namespaces, configs and schedulers lying beside the tensors do nothing. Whatever a file is given can neither be
changed by it (BUILD sets attributes) nor look outside the file's own numbers.
"""

import math
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from repre_jax.core.errors import UserError
from repre_jax.system import terminal

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
    """Every array in the file under the names on its way, joined by dots; prints the names of tensors it cannot read.

    Raises UserError for a file that PyTorch did not write as a zip, or that holds no array.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a zip file: damaged, of another kind, or written before PyTorch 1.6.\n"
            "  change:   for an old file, write it anew with PyTorch:\n"
            f"            python -c \"import torch; torch.save(torch.load('{path}', 'cpu', weights_only=True), "
            f"'{path.with_suffix('.new.pth')}')\""
        )
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise UserError(f"{path} is a zip file, but not one of PyTorch's: it has no data.pkl.")
        with archive.open(found[0]) as file:
            tree = _Unpickler(file, archive, found[0].removesuffix("data.pkl")).load()
    arrays, unread = {}, []
    for name, value in _leaves(tree, ()):
        if isinstance(value, _Unread):
            unread.append(f"{name} ({value.what})")
        elif name in arrays:
            raise UserError(f"{path} holds {name!r} twice, once by its own name and once by nesting.")
        else:
            arrays[name] = value
    if unread:
        terminal.say(f"Not read from {path.name}: {', '.join(unread)}")
    if not arrays:
        raise UserError(
            f"{path} holds no tensors by name.\n"
            "  expected: a state dict, as torch.save(model.state_dict(), ...) writes it"
        )
    return arrays


class _Inert:
    """Stands in for any class or function that a checkpoint names and that arrays don't need."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _swallow(self, *_: Any, **__: Any) -> "_Inert":
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _swallow


class _Unread(_Inert):
    """Stands in for a tensor that is not read; says what it is."""

    def __init__(self, what: str, *_: Any):
        self.what = what


class _Dict(dict):
    """Stands in for OrderedDict and defaultdict."""

    def __init__(self, *arguments: Any):
        super().__init__(*(a for a in arguments if isinstance(a, list)))

    def __setstate__(self, *_: Any) -> None:
        pass


class _Sealed:
    """What the file may not change."""

    __slots__ = ()

    def __setstate__(self, *_: Any) -> None:
        raise ValueError("the file tries to change what reads it")


class _StorageType(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype


class _Storage(_Sealed):
    __slots__ = ("values",)

    def __init__(self, values: np.ndarray):
        self.values = values


class _Tensor(_Sealed):
    """torch._utils._rebuild_tensor and _v2: a view of a storage, copied. Strides count elements."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = None, hooks: Any = None, meta: Any = None
    ) -> Any:
        if isinstance(storage, _Unread):
            return storage
        if meta:
            return _Unread("a negated or conjugated view")
        if not isinstance(storage, _Storage) or type(shape) is not tuple or type(strides) is not tuple:
            raise ValueError("a tensor is not made of a storage, a shape and strides")
        if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
            raise ValueError("a tensor's offset, shape and strides are not whole numbers of at least 0")
        values = storage.values
        if math.prod(shape) == 0:
            return np.zeros(shape, values.dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if last >= len(values):
            raise ValueError("a tensor lies outside its storage")
        strides = [stride * values.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, strides).copy()


class _Parameter(_Sealed):
    """torch._utils._rebuild_parameter and _with_state."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


class _Typed(_Sealed):
    """torch._tensor._rebuild_from_type_v2: a tensor of a subclass, or one that carries attributes."""

    __slots__ = ()

    def __call__(self, build: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        return build(*arguments) if isinstance(build, _Tensor | _Parameter) else _Unread("a tensor of its own class")


KNOWN = {
    ("collections", "OrderedDict"): _Dict,
    ("collections", "defaultdict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    ("torch._utils", "_rebuild_parameter_with_state"): _Parameter(),
    ("torch._tensor", "_rebuild_from_type_v2"): _Typed(),
} | {("torch", name): _StorageType(dtype) for name, dtype in STORAGES.items()}


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries and arrays, nothing else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file, encoding="utf-8")
        self.archive, self.folder = archive, folder
        self.storages: dict[tuple[str, _StorageType], _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        tensor = module.startswith("torch") and (name.startswith("_rebuild") or name.endswith("Storage"))
        array = module.startswith("numpy") and name == "_reconstruct"
        other = _Unread(f"{module}.{name}") if tensor or array else _Inert
        return KNOWN.get((module, name), other)

    def persistent_load(self, pid: Any) -> Any:
        """One storage, read once: pid is ('storage', type, file, device, count)."""
        _, kind, file, _, _ = pid
        if not isinstance(kind, _StorageType):
            return kind if isinstance(kind, _Unread) else _Unread("an unknown storage")
        if (file, kind) not in self.storages:
            data = self.archive.read(f"{self.folder}data/{file}")
            if kind.dtype == "bfloat16":
                values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(data, kind.dtype)
            self.storages[file, kind] = _Storage(values)
        return self.storages[file, kind]


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(joined name, array or _Unread) of everything in nested dictionaries and lists."""
    if isinstance(tree, np.ndarray | _Unread):
        yield ".".join(path), tree
    elif isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from _leaves(value, (*path, str(key)))
