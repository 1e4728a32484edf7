"""A config's whole training step on synthetic images, compiled and ready to be timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import main
from repre_jax.core import sharding
from repre_jax.core.schedules import Plan
from repre_jax.core.types import TrainState, Views
from repre_jax.tasks import methods, setup, views
from repre_jax.train.pretrain import Pretraining

STEPS_WORTH = 1000  # of records, which the schedules are laid out for


@dataclass
class Step:
    """state: of step 0, until `take` is called. compiled: XLA's program of the step."""

    config: ConfigDict
    plan: Plan
    method: Pretraining
    mesh: Mesh
    state: TrainState
    batch: Views
    compiled: Any
    compile_seconds: float

    def take(self) -> float:
        """One step; the seconds it took."""
        begun = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.compiled(self.state, self.batch))
        return time.perf_counter() - begun

    @property
    def gflop(self) -> float:
        """That XLA counts, of all devices together."""
        return self.compiled.cost_analysis()["flops"] * self.mesh.size / 1e9

    @property
    def memory(self) -> int:
        """Bytes that XLA's program holds at most on a device: arguments, results, and what lies between."""
        plan = self.compiled.memory_analysis()
        inputs, outputs = plan.argument_size_in_bytes, plan.output_size_in_bytes - plan.alias_size_in_bytes
        return inputs + outputs + plan.temp_size_in_bytes


def parse(path: str, overrides: list[str]) -> ConfigDict:
    """The checked config of a command line. Raises UserError."""
    config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
    setup.check(config)
    return config


def with_variants(path: str, *variants: str) -> str:
    """'configs/a.py:digits' and 'baseline' -> 'configs/a.py:digits,baseline'."""
    return path + "".join(f"{',' if ':' in path or place else ':'}{name}" for place, name in enumerate(variants))


def build(config: ConfigDict) -> Step:
    """Weights from the config's seed, random uint8 views."""
    mesh = sharding.make_mesh(config.batch_size, config.accumulate)
    plan = methods.build_plan(config, records=STEPS_WORTH * config.batch_size)
    method = methods.build_method(config, plan)
    everywhere = sharding.replicated(mesh)
    shape = (*views.image_size(config), config.data.channels)
    key = jax.random.PRNGKey(config.seed)
    state = jax.jit(lambda key: method.init_state(key, shape), out_shardings=everywhere)(key)
    batch = synthetic(config, mesh)
    begun = time.perf_counter()
    step = jax.jit(method.train_step, donate_argnums=0, out_shardings=everywhere)
    compiled = step.lower(state, batch).compile()
    return Step(config, plan, method, mesh, state, batch, compiled, time.perf_counter() - begun)


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
    """Seconds of `steps` steps of each, one of each in turn, so that what else the machine does meets all alike."""
    times = {name: [] for name in takers}
    for turn in range(warm_up + steps):
        for name, take in takers.items():
            seconds = take()
            if turn >= warm_up:
                times[name].append(seconds)
    return times


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, in milliseconds."""
    low, high = np.percentile(seconds, (10, 90))
    return {"median_ms": 1e3 * statistics.median(seconds), "p10_ms": 1e3 * low, "p90_ms": 1e3 * high}
