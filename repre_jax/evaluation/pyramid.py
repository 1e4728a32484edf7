"""Feature maps as colours: the three directions in which they differ most."""

import numpy as np

ROBUST = (1, 99)  # percentiles that become 0 and 1


def colours(maps: np.ndarray) -> np.ndarray:
    """Maps [N, h, w, C] of one pyramid level -> float32 [N, h, w, 3] in 0..1.

    Red, green and blue are the first three principal components of all N * h * w tokens together, so that a colour
    means the same in every image. Each is scaled by itself. A component that is not there, or does not vary, is 0.5.
    """
    from sklearn.decomposition import PCA  # slow to import

    tokens = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    found = np.full((len(tokens), 3), 0.5, np.float32)
    if np.ptp(tokens, axis=0).any():
        count = min(3, *tokens.shape)
        parts = PCA(count, svd_solver="full").fit_transform(tokens)
        low, high = np.percentile(parts, ROBUST, axis=0)
        varies = high - low > 1e-9 * np.abs(tokens).max()
        scaled = (parts - low) / np.where(varies, high - low, 1)
        found[:, :count] = np.where(varies, np.clip(scaled, 0, 1), 0.5)
    return found.reshape(*maps.shape[:-1], 3)
