"""MoCo v3."""

import math

from tests.helpers.expected import BATCH, WIDTH, Expected, cross_entropy, unit


def loss(online, target, framework_state, step):
    total, count = 0.0, len(online)
    for a, b in ((0, 1), (1, 0)):
        for i in range(count):
            logits = [unit(online[i, a]) @ unit(target[j, b]) / 0.3 for j in range(count)]
            total += 2 * 0.3 * cross_entropy(logits, i) / count
    return total


EXPECTED = Expected(
    config="moco_vit_s",
    settings={"hidden": 4096, "out": 256, "temperature": 0.2, "momentum": 0.99, "momentum_end": 1.0},
    small={"hidden": 8, "out": WIDTH, "temperature": 0.3},
    loss=loss,
    collapse=4 * 0.3 * math.log(BATCH),
    projector={
        "fc1": {"kernel": (10, 8)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 8)}, "bn2": {"scale": (8,), "bias": (8,)},
        "fc3": {"kernel": (8, 5)},
    },
    predictor={"fc1": {"kernel": (5, 8)}, "bn1": {"scale": (8,), "bias": (8,)}, "fc2": {"kernel": (8, 5)}},
    forward=([("each", "relu"), ("each", "relu"), ("each", "")], [("each", "relu"), ("each", "")]),
    ema_lead=1,
    heads=12,
)  # fmt: skip
