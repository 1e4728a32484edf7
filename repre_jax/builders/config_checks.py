"""What can be seen to be wrong in a config without the data. Each fault is a UserError that names the key."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core.errors import UserError
from repre_jax.frameworks import FRAMEWORKS

# Key -> (smallest, largest) value that makes sense. What one framework alone has stands in its SPEC.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, math.inf),
    "batch_size": (2, math.inf),  # one record has no negatives and no statistics
    "accumulate": (1, math.inf),
    "epochs": (1e-9, 1e9),
    "log_every": (1, math.inf),
    "data.workers": (0, 1024),
    "data.test_crop": (0.01, 1),
    "data.channels": (1, 512),
    "data.max_unreadable": (0, 1),
    "data.labels": (1e-9, 1),
    "data.draw": (0, math.inf),
    "augment.jitter_probability": (0, 1),
    "augment.grey_probability": (0, 1),
    "augment.flip_probability": (0, 1),
    "collapse_patience": (1, math.inf),
    "stop_after_skipped": (1, math.inf),
    "augment.local_views": (0, 64),
    "framework.momentum": (0, 1),
    "framework.momentum_end": (0, 1),
    "repre.weighting_lr_scale": (0, 1e6),
    "optim.lr": (1e-12, 1e6),
    "optim.warmup_epochs": (0, 1e9),
    "optim.lr_start": (0, 1e6),
    "optim.lr_end": (0, 1e6),
    "optim.weight_decay": (0, 1e6),
    "optim.weight_decay_end": (0, 1e6),
    "optim.momentum": (0, 0.999999),
    "optim.trust_coefficient": (1e-12, 1e6),
    "optim.clip_norm": (1e-12, 1e12),
    "optim.b1": (0, 0.999999),
    "optim.b2": (0, 0.99999999),
    "optim.eps": (1e-30, 1),
    "knn.times": (1, 1_000_000),
    "knn.k": (1, math.inf),
    "knn.train_records": (1, math.inf),
    "knn.test_records": (1, math.inf),
    "knn.temperature": (1e-6, 1e6),
    "evaluations": (0, 1_000_000),
    "linear.held_out": (0, 0.9),
    "linear.init_std": (0, 1e3),
    "linear.label_smoothing": (0, 0.999),
    "finetune.layer_decay": (1e-6, 1),
    "finetune.init_std": (0, 1e3),
    "finetune.label_smoothing": (0, 0.999),
    "finetune.mixup_alpha": (0, 1e6),
    "finetune.cutmix_alpha": (0, 1e6),
    "finetune.erase_probability": (0, 1),
    "dense_probe.train_images": (2, math.inf),
    "dense_probe.test_images": (1, math.inf),
    "dense_probe.patches": (1, math.inf),
    "dense_probe.held_out": (0.01, 0.9),
    "segment.auxiliary_weight": (0, 1e3),
    "segment.largest_share": (1e-6, 1.000001),
    "segment.tries": (0, 10_000),
    "data.first_value": (0, 254),
    "detect.slots": (1, 1000),
    "detect.width": (1, 4096),
    "detect.hidden": (1, 65536),
    "detect.longest": (1, 8192),
    "detect.crop": (0, 1),
    "detect.anchors": (2, 100_000),
    "detect.anchor_positives": (1, 100_000),
    "detect.regions": (2, 10_000),
    "detect.region_positives": (1, 10_000),
    "detect.per_level": (1, 20_000),
    "detect.proposals": (1, 20_000),
    "detect.test_short": (32, 8192),
    "detect.test_longest": (32, 8192),
    "detect.test_per_level": (1, 20_000),
    "detect.test_proposals": (1, 20_000),
    "detect.test_score": (0, 0.999999),
    "detect.test_threshold": (0, 1),
    "detect.test_detections": (1, 100),  # COCO's precision is of 100 an image
    "detect.test_candidates": (1, 20_000),
    "encoder.drop_path": (0, 0.999999),
    "checkpoint.every": (1, math.inf),
    "checkpoint.keep": (1, math.inf),
    "checkpoint.keep_every": (1, math.inf),
    "distributed.timeout": (1, math.inf),
    "distributed.step_timeout": (0, math.inf),
}
# What holds for one task alone: the pixels of one image have statistics.
OF_TASKS: dict[str, dict[str, tuple[float, float]]] = {
    task: {"batch_size": (1, math.inf)} for task in ("segment", "detect", "dense_probe")
}

HOG_SIDES = (24, 96)  # pixels: from one block of it to 8,100 values an image


def ranges(config: ConfigDict) -> None:
    """Raises UserError for a number outside of its range: RANGES, or for framework.* its own. NaN lies in no range,
    wherever it stands."""
    for name, (low, high) in (RANGES | _framework_ranges(config) | OF_TASKS.get(config.get("task"), {})).items():
        value = functools.reduce(lambda tree, part: None if tree is None else tree.get(part), name.split("."), config)
        if isinstance(value, int | float) and not low <= value <= high:
            wanted = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise UserError(f"{name} is {value}.\n  expected: a number {wanted}\n  change:   --config.{name}=...")
    for name, value in _leaves(config.to_dict()):
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"{name} is {value}.\n  expected: a number\n  change:   --config.{name}=...")


def _framework_ranges(config: ConfigDict) -> dict[str, tuple[float, float]]:
    """Those of the config's framework; none for an evaluation, nor for an unknown name, which building refuses."""
    spec = FRAMEWORKS.get(config.get("framework", {}).get("name"))
    return {f"framework.{key}": both for key, both in spec.ranges.items()} if spec else {}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(key such as 'optim.rules', value) of everything in nested dicts and tuples; a tuple's items have its key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value


def hog(wanted: bool, size: tuple[int, int]) -> None:
    """Raises UserError where k-NN by HOG is wanted of images that are too small for it, or too large to be kept."""
    if wanted and not all(HOG_SIDES[0] <= side <= HOG_SIDES[1] for side in size):
        raise UserError(
            f"knn.hog is True, for images of {size[0]} x {size[1]} pixels.\n"
            f"  expected: sides of {HOG_SIDES[0]} to {HOG_SIDES[1]} pixels\n  change:   --config.knn.hog=False"
        )


def microbatches(batch_size: int, accumulate: int) -> None:
    """Raises UserError when a microbatch would be one record: it has no negatives and no statistics."""
    if batch_size < 2 * accumulate:
        raise UserError(
            f"accumulate is {accumulate}, for a batch_size of {batch_size}.\n"
            "  expected: microbatches of at least 2 images\n"
            f"  change:   --config.accumulate={max(1, batch_size // 2)}"
        )


def numbers(name: str, values: Sequence[float], count: int, low: float, high: float) -> None:
    """Raises UserError unless `values` are `count` numbers in low..high."""
    if len(values) != count or not all(isinstance(v, int | float) and low <= v <= high for v in values):
        raise UserError(
            f"{name} is {tuple(values)}.\n  expected: {count} numbers from {low:g} to {high:g}\n"
            f"  change:   --config.{name}='(...)'"
        )


def span(name: str, values: Sequence[float], high: float) -> tuple[float, float]:
    """Two numbers above 0, at most `high`, the first not the larger one. Raises UserError for other `values`."""
    fits = len(values) == 2 and all(isinstance(v, int | float) for v in values)
    if not fits or not 0 < values[0] <= values[1] <= high:
        raise UserError(
            f"{name} is {tuple(values)}.\n  expected: two numbers above 0, up to {high:g}, the first not the larger\n"
            f"  change:   --config.{name}='(...)'"
        )
    return values[0], values[1]
