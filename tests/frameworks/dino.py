"""DINO."""

import math

import numpy as np

from configs import base
from tests.helpers.expected import LOCAL, PROTOTYPES, Expected


def loss(online, target, framework_state, step):
    total, count, epoch = 0.0, len(online), step // 10
    temperature = 0.05 + (0.09 - 0.05) * min(epoch, 2) / 2  # 3 values over the first 3 epochs
    centre, pairs = np.asarray(framework_state["centre"], np.float64), 0
    for g in range(2):
        for v in range(2 + LOCAL):
            if v == g:
                continue
            pairs += 1
            for i in range(count):
                t = np.exp((target[i, g] - centre) / temperature - ((target[i, g] - centre) / temperature).max())
                s = online[i, v] / 0.13
                total -= sum(t / t.sum() * (s - s.max() - np.log(np.exp(s - s.max()).sum()))) / count
    assert pairs == 2 * (2 + LOCAL) - 2
    return total / pairs


EXPECTED = Expected(
    config="dino_vit_s",
    settings={
        "hidden": 2048, "bottleneck": 256, "out": 65_536, "train_gain": True, "batch_norm": False, "temperature": 0.1,
        "teacher_temperature": (0.04, 0.07), "teacher_warmup_epochs": 30.0, "centre_momentum": 0.9, "momentum": 0.996,
        "momentum_end": 1.0,
    },
    small={
        "hidden": 7, "bottleneck": 4, "out": PROTOTYPES, "train_gain": True, "batch_norm": False, "temperature": 0.13,
        "teacher_temperature": (0.05, 0.09), "teacher_warmup_epochs": 3.0, "centre_momentum": 0.8,
    },
    loss=loss,
    collapse=math.log(PROTOTYPES),
    projector={
        "fc1": {"kernel": (10, 7), "bias": (7,)}, "fc2": {"kernel": (7, 7), "bias": (7,)},
        "fc3": {"kernel": (7, 4), "bias": (4,)}, "direction": (4, 11), "gain": (1, 11),
    },
    predictor=None,
    forward=None,
    local_views=True,
    optim=(5e-4, 10, 0.04, 0.4, 1024, 3.0, True, "dino"),
    augment=(0.4, (0.4, 0.4, 0.2, 0.1), (1.0, 0.1, 0.5), (0.0, 0.2, 0.0), 8),
    interpolation="bicubic",
    rules=(base.UNDECAYED, ("^projector/(direction|gain)$", "frozen_epochs", 1.0)),
    drop_path=0.1,
)  # fmt: skip
