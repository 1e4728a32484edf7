"""The digest by which an encoder's weights are known again."""

import hashlib
from typing import Any

import jax
import numpy as np


def digest(params: Any) -> str:
    """SHA-256 of all parameters, to the bit."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
