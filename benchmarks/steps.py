"""A config's whole training step on synthetic images, compiled and ready to be timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import main
from repre_jax.core import sharding
from repre_jax.core.types import TrainState, Views
from repre_jax.tasks import program, setup, views
from repre_jax.tasks.program import Program

IN_A_ROW = 5


@dataclass
class Step:
    """state: of step 0, until `take` is called."""

    config: ConfigDict
    program: Program
    state: TrainState
    batch: Views

    def take(self) -> float:
        """One step; the seconds it took."""
        begun = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.program.compiled(self.state, self.batch))
        return time.perf_counter() - begun


def parse(path: str, overrides: list[str]) -> ConfigDict:
    """The checked config of a command line. Raises UserError."""
    config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
    setup.check(config)
    return config


def with_variants(path: str, *variants: str) -> str:
    """'configs/a.py:digits' and 'baseline' -> 'configs/a.py:digits,baseline'."""
    return path + "".join(f"{',' if ':' in path or place else ':'}{name}" for place, name in enumerate(variants))


def compile_step(config: ConfigDict) -> tuple[Program, float]:
    """The program and the seconds that it took to compile; never from a cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    begun = time.perf_counter()
    compiled = program.compile_step(config)
    return compiled, time.perf_counter() - begun


def ready(config: ConfigDict, compiled: Program) -> Step:
    """Weights from the config's seed, random uint8 views."""
    shape = (*views.image_size(config), config.data.channels)
    init = jax.jit(lambda key: compiled.method.init_state(key, shape), out_shardings=compiled.state_sharding)
    return Step(config, compiled, init(program.key_of(config)), synthetic(config, compiled.mesh))


def gflop(compiled: Program) -> float:
    """That XLA counts, of all devices together."""
    return compiled.compiled.cost_analysis()["flops"] * compiled.mesh.size / 1e9


def synthetic(config: ConfigDict, mesh: Mesh) -> Views:
    """Random uint8 views, split over the devices."""
    rng = np.random.default_rng(0)

    def crops(count: int, size: tuple[int, int]) -> np.ndarray:
        return rng.integers(0, 256, (config.batch_size, count, *size, config.data.channels), np.uint8)

    local = config.augment.local_views
    batch = Views(
        images=crops(views.VIEWS, views.image_size(config)),
        labels=np.zeros(config.batch_size, np.int32),
        local=crops(local, views.local_size(config)) if local else None,
    )
    return sharding.shard_batch(batch, mesh)


def in_turns(takers: Mapping[str, Callable[[], float]], *, steps: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of at least `steps` steps of each, in turns, so that what else the machine does meets all alike.

    A turn is IN_A_ROW steps, as training takes them; the first of several takers' turns is not counted, since caches
    and threads are still those of the one before.
    """
    times = {name: [] for name in takers}
    for take in takers.values():
        for _ in range(warm_up):
            take()
    while min(map(len, times.values())) < steps:
        for name, take in takers.items():
            seconds = [take() for _ in range(IN_A_ROW)]
            times[name] += seconds[1:] if len(takers) > 1 else seconds
    return times


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, in milliseconds."""
    low, high = np.percentile(seconds, (10, 90))
    return {"median_ms": 1e3 * statistics.median(seconds), "p10_ms": 1e3 * low, "p90_ms": 1e3 * high}
