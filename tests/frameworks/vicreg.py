"""VICReg."""

import math

from tests.helpers.expected import WIDTH, Expected


def loss(online, target, framework_state, step):
    count, width = len(online), online.shape[-1]
    invariance = sum((online[i, 0, d] - online[i, 1, d]) ** 2 for i in range(count) for d in range(width))
    variance = covariance = 0.0
    for view in range(2):
        means = [sum(online[i, view, d] for i in range(count)) / count for d in range(width)]
        for d in range(width):
            for e in range(width):
                products = ((online[i, view, d] - means[d]) * (online[i, view, e] - means[e]) for i in range(count))
                value = sum(products) / (count - 1)
                if d == e:
                    variance += max(0.0, 1 - math.sqrt(value + 1e-4)) / width / 2
                else:
                    covariance += value**2 / width
    return 21.0 * invariance / (count * width) + 23.0 * variance + 1.5 * covariance


EXPECTED = Expected(
    config="vicreg_vit_s",
    settings={"hidden": 8192, "out": 8192, "invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    small={"hidden": 8, "out": WIDTH, "invariance": 21.0, "variance": 23.0, "covariance": 1.5},
    loss=loss,
    collapse=23.0 * 0.99,
    projector={
        "fc1": {"kernel": (10, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 8), "bias": (8,)}, "bn2": {"scale": (8,), "bias": (8,)},
        "fc3": {"kernel": (8, 5)},
    },
    predictor=None,
    forward=([("each", "relu"), ("each", "relu"), ("", "")], []),
    target="none",
    interpolation="bicubic",
)  # fmt: skip
