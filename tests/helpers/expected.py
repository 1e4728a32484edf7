"""What the tests of losses, heads and configs expect of a framework; tests/frameworks has a file for each."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import base

BATCH, WIDTH, QUEUE, PROTOTYPES, LOCAL = 6, 5, 18, 11, 3  # of the small ones
FOLDER = Path(__file__).resolve().parent.parent / "frameworks"

Layers = list[tuple[str, str]]


@dataclass(frozen=True)
class Expected:
    """By hand from the sources that the framework's file and its config name.

    config:     its ViT-S file in configs.
    settings:   of config.framework at full size, but for the name.
    small:      settings of small, different sizes, for `loss` and the heads; embeddings are of size WIDTH.
    loss:       slow loops over the sources' formula, of the small one: (online, target, framework_state, step).
    collapse:   the small one's loss when all embeddings are equal.
    projector, predictor: layer -> its parameters and their shapes, of the small one, for a feature of width 10.
    forward:    the two heads, layer by layer: a Dense layer, then BatchNorm (of 'each' view, or 'joint') or not, then
                ReLU or not. None for a head of other layers.
    target, ema_lead, local_views: of the Framework.
    optim:      lr per 256 images, warm-up, first and last decay, batch, clipping together and each, schedule.
    augment:    smallest crop, jitter, blur and solarize of each view, number of local ones.
    """

    config: str
    settings: dict[str, Any]
    small: dict[str, Any]
    loss: Callable[..., float]
    collapse: float
    projector: dict[str, Any]
    predictor: dict[str, Any] | None
    forward: tuple[Layers, Layers] | None
    target: str = "ema"
    ema_lead: int = 0
    local_views: bool = False
    optim: tuple[Any, ...] = (1.5e-4, 40, 0.1, None, 4096, None, False, "moco_v3")
    augment: tuple[Any, ...] = (0.08, (0.4, 0.4, 0.2, 0.1), (1.0, 0.1), (0.0, 0.2), 0)
    interpolation: str = "bilinear"
    colours: str = "torchvision"
    mean: tuple[float, ...] | None = None
    rules: tuple[tuple[str, str, float], ...] = (base.FROZEN_PATCHES,)
    drop_path: float = 0.0
    heads: int = 6


def of_all() -> dict[str, Expected]:
    """Framework's name -> what its file in tests/frameworks expects."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    return {name: importlib.import_module(f"tests.frameworks.{name}").EXPECTED for name in names}


def unit(x):
    return np.asarray(x, np.float64) / np.linalg.norm(x)


def cross_entropy(logits, label):
    return math.log(sum(math.exp(x) for x in logits)) - logits[label]


def by_queue(queries, keys, queue):
    """The mean over the batch of finding each query's key among the queue's, at a temperature of 0.3."""
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        q = unit(query)
        logits = [q @ unit(key) / 0.3] + [q @ np.asarray(k, np.float64) / 0.3 for k in queue]
        total += cross_entropy(logits, 0) / len(queries)
    return total
