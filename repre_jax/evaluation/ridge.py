"""Linear classifiers and regressions without steps: least squares with a penalty, which has one solution. It says what
a line through features reaches where there are no heads to train, as of raw pixels, or of a patch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALPHAS = (10.0, 100.0, 1000.0, 10_000.0)  # penalties that are tried
ROWS = 16_384  # that are in float64 at once
SMALLEST = 1e-6  # standard deviation of a feature: one that does not vary tells nothing
Known = tuple[np.ndarray, np.ndarray]  # features, float32 [records, D], and labels, int [records]


def accuracy(train: Known, held_out: Known, test: Known, classes: int) -> float:
    """Share of the test records, 0..1, that a ridge classifier of standardised features tells, trained on train and
    held_out together, with the penalty with which one trained on train alone told held_out best."""
    both = np.concatenate([train[0], held_out[0]]), np.concatenate([train[1], held_out[1]])
    mean, std = both[0].mean(axis=0), both[0].std(axis=0) + 1e-6

    def standard(features: np.ndarray) -> np.ndarray:
        return np.c_[(features - mean) / std, np.ones(len(features), np.float32)]

    def fitted(known: Known, alphas: Sequence[float]) -> list[np.ndarray]:
        features, wanted = standard(known[0]), 2 * np.eye(classes, dtype=np.float32)[known[1]] - 1
        square, right = features.T @ features, features.T @ wanted
        weights = np.arange(len(square)) < len(square) - 1  # the last is the intercept, which is as large as it wants
        return [np.linalg.solve(square + np.diag(alpha * weights + 1e-3).astype(np.float32), right) for alpha in alphas]

    def told(known: Known, weights: np.ndarray) -> float:
        return float(((standard(known[0]) @ weights).argmax(axis=1) == known[1]).mean())

    found = [told(held_out, weights) for weights in fitted(train, ALPHAS)]
    (weights,) = fitted(both, [ALPHAS[int(np.argmax(found))]])
    return told(test, weights)


@dataclass(frozen=True)
class Line:
    """weights: float64 [D, K]. bias: float64 [K]."""

    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[rows, D] -> float32 [rows, K]."""
        return features @ self.weights.astype(np.float32) + self.bias.astype(np.float32)


@dataclass(frozen=True)
class Sums:
    """All that least squares needs to know of rows of features and targets, in float64: of more rows it is the sum.

    weight: of all rows. x, y: [D], [K], weighted sums of features and targets. xx, xy: [D, D], [D, K], of their
    products.
    """

    weight: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> "Sums":
        """features: [rows, D]. targets: [rows, K]. weights: [rows], else 1 each."""
        width, count = features.shape[1], targets.shape[1]
        found = cls(0.0, np.zeros(width), np.zeros(count), np.zeros((width, width)), np.zeros((width, count)))
        for start in range(0, len(features), ROWS):
            rows = slice(start, start + ROWS)
            x, y = features[rows].astype(np.float64), targets[rows].astype(np.float64)
            w = np.ones(len(x)) if weights is None else weights[rows].astype(np.float64)
            weighed = x * w[:, None]
            found += cls(float(w.sum()), weighed.sum(axis=0), w @ y, weighed.T @ x, weighed.T @ y)
        return found

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.weight + other.weight, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy
        )

    def of_features(self, part: slice) -> "Sums":
        """Of some of the features."""
        return Sums(self.weight, self.x[part], self.y, self.xx[part, part], self.xy[part])

    def lines(self, penalties: Sequence[float]) -> list[Line]:
        """The line of each penalty, which is that of scikit-learn's Ridge(alpha=penalty * weight) on features that are
        standardised by these rows. The intercept has no penalty."""
        mean, centre = self.x / self.weight, self.y / self.weight
        square = self.xx / self.weight - np.outer(mean, mean)
        std = np.sqrt(np.maximum(np.diag(square), 0)) + SMALLEST
        values, axes = np.linalg.eigh(square / np.outer(std, std))
        right = axes.T @ ((self.xy / self.weight - np.outer(mean, centre)) / std[:, None])
        found = []
        for penalty in penalties:
            weights = (axes @ (right / (np.maximum(values, 0) + penalty)[:, None])) / std[:, None]
            found.append(Line(weights, centre - mean @ weights))
        return found
