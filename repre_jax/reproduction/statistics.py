"""What few seeds can say: means, differences paired by seed with Student's interval, and counts of signs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """mean; std: of the sample, NaN of one value; count."""

    mean: float
    std: float
    count: int


def summary(values: Sequence[float]) -> Summary | None:
    """None of no value."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Summary(float(np.mean(values)), std, len(values))


@dataclass(frozen=True)
class Difference:
    """Of two rows, paired by seed. low, high: Student's interval of the mean at CONFIDENCE, NaN of one pair. positive,
    negative: how many pairs have that sign."""

    mean: float
    low: float
    high: float
    count: int
    positive: int
    negative: int


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """ours - theirs, both by seed, of the seeds that both have; None where there are none."""
    pairs = np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    if not len(pairs):
        return None
    mean = float(pairs.mean())
    if len(pairs) == 1:
        low = high = math.nan
    elif np.ptp(pairs) == 0:  # scipy's interval of no spread is NaN
        low = high = mean
    else:
        low, high = stats.t.interval(CONFIDENCE, len(pairs) - 1, loc=mean, scale=stats.sem(pairs))
    return Difference(mean, float(low), float(high), len(pairs), int((pairs > 0).sum()), int((pairs < 0).sum()))


@dataclass(frozen=True)
class Signs:
    """Of pairs: how many are above 0 and below, those that are equal left out; p: two-sided, of a fair coin."""

    positive: int
    negative: int
    p: float


def signs(differences: Sequence[Difference]) -> Signs:
    positive, negative = sum(each.positive for each in differences), sum(each.negative for each in differences)
    both = positive + negative
    return Signs(positive, negative, float(stats.binomtest(positive, both).pvalue) if both else 1.0)
