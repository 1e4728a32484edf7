"""How many directions features really use: a measure that needs no labels."""

import numpy as np

EPSILON = 1e-7  # RankMe's, for float32


def effective_rank(features: np.ndarray) -> float:
    """The exponential of the entropy of the normalised singular values: 1..min(N, D) (RankMe, Garrido et al. 2023).

    features: [N, D]; those of a collapsed network have an effective rank near 1.
    """
    values = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    shares = values / max(values.sum(), EPSILON) + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))
