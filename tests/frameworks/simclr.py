"""SimCLR."""

import math

from tests.helpers.expected import BATCH, WIDTH, Expected, cross_entropy, unit


def loss(online, target, framework_state, step):
    total, count = 0.0, len(online)
    z = [unit(online[i, v]) for v in range(2) for i in range(count)]
    for i in range(2 * count):
        others = [j for j in range(2 * count) if j != i]
        logits = [z[i] @ z[j] / 0.3 for j in others]
        total += cross_entropy(logits, others.index((i + count) % (2 * count))) / count
    return total


EXPECTED = Expected(
    config="simclr_vit_s",
    settings={"hidden": None, "out": 128, "temperature": 0.1},
    small={"hidden": None, "out": WIDTH, "temperature": 0.3},
    loss=loss,
    collapse=2 * math.log(2 * BATCH - 1),
    projector={
        "fc1": {"kernel": (10, 10)}, "bn1": {"scale": (10,), "bias": (10,)},
        "fc2": {"kernel": (10, 10)}, "bn2": {"scale": (10,), "bias": (10,)},
        "fc3": {"kernel": (10, 5)}, "bn3": {"scale": (5,)},
    },
    predictor=None,
    forward=([("joint", "relu"), ("joint", "relu"), ("joint", "")], []),
    target="none",
    augment=(0.08, (0.8, 0.8, 0.8, 0.2), (0.5, 0.5), (0.0, 0.0), 0),
    interpolation="bicubic",
    colours="tensorflow",
    mean=(0.0, 0.0, 0.0),
)  # fmt: skip
