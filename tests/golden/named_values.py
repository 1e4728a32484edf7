"""Values that both sides of a comparison with PyTorch make of a name and a shape, so that neither hands any over."""

import zlib

import numpy as np


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32. A tensor of a state dict, in PyTorch's layout, or data of any other name.

    Gains lie around 1, variances are positive, kernels are divided by the root of their inputs. RandomState's stream
    never changes between NumPy versions.
    """
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = np.exp(0.5 * values)
    elif name.endswith("weight") and len(shape) == 1:
        values = 1 + 0.3 * values
    elif name.endswith("weight"):
        values = values / np.prod(shape[1:]) ** 0.5
    return values.astype(np.float32)
