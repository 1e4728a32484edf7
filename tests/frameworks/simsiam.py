"""SimSiam."""

from configs import base
from tests.helpers.expected import WIDTH, Expected, unit


def loss(online, target, framework_state, step):
    total, count = 0.0, len(online)
    for i in range(count):
        for a, b in ((0, 1), (1, 0)):
            total += (1 - unit(online[i, a]) @ unit(target[i, b])) / 2 / count
    return total


EXPECTED = Expected(
    config="simsiam_vit_s",
    settings={"hidden": None, "predictor_hidden": 512, "out": 2048},
    small={"hidden": None, "predictor_hidden": 3, "out": WIDTH},
    loss=loss,
    collapse=0.0,
    projector={
        "fc1": {"kernel": (10, 10)}, "bn1": {"scale": (10,), "bias": (10,)},
        "fc2": {"kernel": (10, 10)}, "bn2": {"scale": (10,), "bias": (10,)},
        "fc3": {"kernel": (10, 5)},
    },
    predictor={
        "fc1": {"kernel": (5, 3)}, "bn1": {"scale": (3,), "bias": (3,)},
        "fc2": {"kernel": (3, 5), "bias": (5,)},
    },
    forward=([("each", "relu"), ("each", "relu"), ("each", "")], [("each", "relu"), ("", "")]),
    target="self",
    augment=(0.2, (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0.0, 0.0), 0),
    rules=(base.FROZEN_PATCHES, ("^predictor/", "constant_lr", 1.0)),
)  # fmt: skip
