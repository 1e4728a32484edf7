"""MoBY."""

import math

from configs import base
from tests.helpers.expected import QUEUE, WIDTH, Expected, by_queue


def loss(online, target, framework_state, step):
    first = by_queue(online[:, 0], target[:, 1], framework_state["queue2"])
    return first + by_queue(online[:, 1], target[:, 0], framework_state["queue1"])


EXPECTED = Expected(
    config="moby_vit_s",
    settings={
        "hidden": 4096, "out": 256, "queue": 4096, "temperature": 0.2, "momentum": 0.99, "momentum_end": 1.0,
    },
    small={"hidden": 8, "out": WIDTH, "queue": QUEUE, "temperature": 0.3},
    loss=loss,
    collapse=2 * math.log(1 + QUEUE),
    projector={
        "fc1": {"kernel": (10, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 5), "bias": (5,)},
    },
    predictor={
        "fc1": {"kernel": (5, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
        "fc2": {"kernel": (8, 5), "bias": (5,)},
    },
    forward=([("each", "relu"), ("", "")], [("each", "relu"), ("", "")]),
    ema_lead=1,
    optim=(5e-4, 5, 0.05, None, 512, 5.0, False, "moby"),
    rules=(base.UNDECAYED,),
    drop_path=0.2,
)  # fmt: skip
