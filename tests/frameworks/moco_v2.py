"""MoCo v2."""

import math

from tests.helpers.expected import QUEUE, WIDTH, Expected, by_queue


def loss(online, target, framework_state, step):
    return by_queue(online[:, 0], target[:, 0], framework_state["queue"])


EXPECTED = Expected(
    config="moco_v2_vit_s",
    settings={
        "hidden": None, "out": 128, "queue": 65_536, "temperature": 0.2, "momentum": 0.999, "momentum_end": 0.999,
    },
    small={"hidden": None, "out": WIDTH, "queue": QUEUE, "temperature": 0.3},
    loss=loss,
    collapse=math.log(1 + QUEUE),
    projector={"fc1": {"kernel": (10, 10), "bias": (10,)}, "fc2": {"kernel": (10, 5), "bias": (5,)}},
    predictor=None,
    forward=([("", "relu"), ("", "")], []),
    ema_lead=1,
    augment=(0.2, (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0.0, 0.0), 0),
)  # fmt: skip
