"""BYOL."""

from tests.helpers.expected import WIDTH, Expected, unit


def loss(online, target, framework_state, step):
    total, count = 0.0, len(online)
    for i in range(count):
        for a, b in ((0, 1), (1, 0)):
            total += (2 - 2 * (unit(online[i, a]) @ unit(target[i, b]))) / count
    return total


EXPECTED = Expected(
    config="byol_vit_s",
    settings={"hidden": 4096, "out": 256, "momentum": 0.99, "momentum_end": 1.0},
    small={"hidden": 8, "out": WIDTH},
    loss=loss,
    collapse=0.0,
    projector={
        "fc1": {"kernel": (10, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 5), "bias": (5,)},
    },
    predictor={
        "fc1": {"kernel": (5, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 5), "bias": (5,)},
    },
    forward=([("each", "relu"), ("", "")], [("each", "relu"), ("", "")]),
    interpolation="bicubic",
)  # fmt: skip
