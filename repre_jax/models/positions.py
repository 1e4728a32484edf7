"""Position tables of vision transformers, and how they are carried over to another grid of patches."""

import jax
import jax.numpy as jnp
import numpy as np

CUBIC = -0.75  # the cubic coefficient of PyTorch and OpenCV; jax.image.resize has -0.5


def sincos(rows: int, columns: int, width: int) -> np.ndarray:
    """MoCo v3's fixed table (vits.py:53-64): [rows * columns, width] float32, row by row.

    Frequencies f_k = 10000^(-k / (width / 4)); the token in row i and column j gets
    [sin(i f), cos(i f), sin(j f), cos(j f)]. MAE's table puts the column first.
    """
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width / 4))
    row = np.repeat(np.arange(rows), columns)[:, None] * frequencies
    column = np.tile(np.arange(columns), rows)[:, None] * frequencies
    return np.concatenate([np.sin(row), np.cos(row), np.sin(column), np.cos(column)], axis=1).astype(np.float32)


def resize(table: jax.Array, size: tuple[int, int], guard: float = 0.0) -> jax.Array:
    """Bicubic resizing of [rows, columns, D] to [*size, D], as torch.nn.functional.interpolate does it.

    Half-pixel centres (align_corners=False), no antialias, borders repeated. guard: what is added to the new number of
    rows and columns before the old ones divide them to give the scale. DINO's 0.1 (vision_transformer.py:174-194)
    guards its rounding and shifts the samples; 0 samples exactly.
    """
    rows, columns = (_cubic_matrix(old, new, guard) for old, new in zip(table.shape[:2], size, strict=True))
    return jnp.einsum("hr,wc,rcd->hwd", rows, columns, table, precision="highest")


def _cubic_matrix(old: int, new: int, guard: float) -> np.ndarray:
    """[new, old] float32: what each old sample gives to each new one."""
    centre = (np.arange(new) + 0.5) * old / (new + guard) - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        distance = np.abs(centre - (first + offset))
        near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
        far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        np.add.at(matrix, (np.arange(new), np.clip(first + offset, 0, old - 1)), np.where(distance <= 1, near, far))
    return matrix.astype(np.float32)
