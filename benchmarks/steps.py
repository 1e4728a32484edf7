"""A config's whole training step on synthetic images, compiled and ready to be timed."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import main
from repre_jax.builders import attention, augmentation, compiled_step
from repre_jax.builders.attention_kinds import Found
from repre_jax.builders.compiled_step import Program
from repre_jax.core import sharding
from repre_jax.core.types import TrainState, Views
from repre_jax.system import terminal
from repre_jax.tasks import pretrain

TURN = 2.0  # seconds
LEAST = 3  # steps
CHOSEN: dict[str, tuple[str, dict[str, Found]]] = {}  # attention by what it depends on


@dataclass
class Step:
    """state: of step 0, until `take` is called."""

    config: ConfigDict
    program: Program
    state: TrainState
    batch: Views

    def take(self, count: int) -> float:
        """Seconds a step of `count` steps, which are waited for at the end, as in training."""
        begun = time.perf_counter()
        for _ in range(count):
            self.state, metrics = self.program.compiled(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - begun) / count


def parse(path: str, overrides: list[str]) -> ConfigDict:
    """The checked config of a command line. Raises UserError."""
    config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
    pretrain.check(config)
    return config


def settled(config: ConfigDict) -> ConfigDict:
    """The config with the attention that a start of a run would choose here, where it leaves that open."""
    sized = config.copy_and_resolve_references()
    sized.encoder.attention = chosen(config)[0]
    return sized


def chosen(config: ConfigDict) -> tuple[str, dict[str, Found]]:
    """attention.choose's, unsaid; what this process has compared once is not compared again."""
    if config.encoder.attention != attention.AUTO:
        return config.encoder.attention, {}
    keys = {**config.encoder, "sizes": (config.data.image_size, config.augment.local_views, config.augment.local_size)}
    known = f"{sorted(keys.items())} {config.dtype}"
    if known not in CHOSEN:
        with terminal.quiet(True):
            CHOSEN[known] = attention.choose(attention.attentions(config))
    return CHOSEN[known]


def with_variants(path: str, *variants: str) -> str:
    """'configs/a.py:digits' and 'baseline' -> 'configs/a.py:digits,baseline'."""
    return path + "".join(f"{',' if ':' in path or place else ':'}{name}" for place, name in enumerate(variants))


def compile_step(config: ConfigDict, devices: Sequence[jax.Device] = ()) -> tuple[Program, float]:
    """The program and the seconds that it took to compile, never from a cache; for these devices, else those here."""
    jax.config.update("jax_enable_compilation_cache", False)
    begun = time.perf_counter()
    compiled = compiled_step.compile_step(config, devices)
    return compiled, time.perf_counter() - begun


def ready(config: ConfigDict, compiled: Program) -> Step:
    """Weights from the config's seed, random uint8 views."""
    shape = (*augmentation.image_size(config), config.data.channels)
    init = jax.jit(lambda key: compiled.method.init_state(key, shape), out_shardings=compiled.state_sharding)
    return Step(config, compiled, init(compiled_step.key_of(config)), synthetic(config, compiled.mesh))


def gflop(compiled: Program) -> float:
    """That XLA counts, of all devices together."""
    cost: Any = compiled.compiled.cost_analysis()
    return cost["flops"] * compiled.mesh.size / 1e9


def synthetic(config: ConfigDict, mesh: Mesh) -> Views:
    """Random uint8 views, split over the devices."""
    rng = np.random.default_rng(0)
    shapes = compiled_step.batch_of(config, mesh)
    return sharding.shard_batch(jax.tree.map(lambda x: rng.integers(0, 256, x.shape).astype(x.dtype), shapes), mesh)


def taker(function: Callable, *given: Any) -> Callable[[int], float]:
    """Seconds a call of so many calls of a jitted function, which are waited for at the end."""

    def take(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            found = function(*given)
        jax.block_until_ready(found)
        return (time.perf_counter() - begun) / count

    return take


def in_turns(takers: Mapping[str, Callable[[int], float]], *, turns: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds a step in each of so many turns of each, so that what else the machine does meets all alike.

    A turn is as many steps as take TURN seconds, at least LEAST: its mean. The step before it is not counted, since
    caches and threads are still those of whoever's turn it was.
    """
    times: dict[str, list[float]] = {name: [] for name in takers}
    counts = {name: max(LEAST, round(TURN / take(warm_up))) for name, take in takers.items()}
    for name, take in [*takers.items()] * turns:
        take(1)
        times[name].append(take(counts[name]))
    return times


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile of turns, in milliseconds."""
    low, high = np.percentile(seconds, (10, 90))
    return {"median_ms": 1e3 * statistics.median(seconds), "p10_ms": 1e3 * low, "p90_ms": 1e3 * high}
