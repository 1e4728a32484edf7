"""What RePre adds to a training step on this machine: the same step with and without it, taken in turns.

  python -m benchmarks.repre_cost [--config configs/moco_vit_s.py:digits] [--batch N] [--steps 20]

Synthetic uint8 views, whole step (augmentation, both branches, optimiser, EMA), medians after warm-up. FLOPs are those
that the compiler counts.
"""

import argparse
import statistics
import time

import jax
import numpy as np

import main
from repre_jax.core import sharding
from repre_jax.core.types import Views
from repre_jax.report import console
from repre_jax.tasks import methods, setup, views


def build(config, mesh):
    """(compiled step, state) of a config; records are taken to be 1,000 steps' worth."""
    plan = methods.build_plan(config, records=1000 * config.batch_size)
    method = methods.build_method(config, plan)
    everywhere = sharding.replicated(mesh)
    shape = (*views.image_size(config), config.data.channels)
    state = jax.jit(lambda key: method.init_state(key, shape), out_shardings=everywhere)(jax.random.PRNGKey(0))
    step = jax.jit(method.train_step, donate_argnums=0, out_shardings=everywhere)
    return step.lower(state, synthetic(config, mesh)).compile(), state


def synthetic(config, mesh):
    rng = np.random.default_rng(0)

    def crops(count, size):
        return rng.integers(0, 256, (config.batch_size, count, *size, config.data.channels), dtype=np.uint8)

    local = config.augment.local_views
    batch = Views(
        images=crops(views.VIEWS, views.image_size(config)),
        labels=np.zeros(config.batch_size, np.int32),
        local=crops(local, config.augment.local_size) if local else None,
    )
    return sharding.shard_batch(batch, mesh)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py:digits")
    parser.add_argument("--batch", type=int, help="records a step; the config's unless given")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each kind")
    arguments = parser.parse_args()

    joint = "," if ":" in arguments.config else ":"
    names = {"with RePre": arguments.config, "baseline": f"{arguments.config}{joint}baseline"}
    steps, states, times, flops = {}, {}, {name: [] for name in names}, {}
    for name, path in names.items():
        overrides = [f"--config.batch_size={arguments.batch}"] if arguments.batch else []
        config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
        setup.check(config)
        mesh = sharding.make_mesh(config.batch_size)
        steps[name], states[name] = build(config, mesh)
        flops[name] = steps[name].cost_analysis()["flops"]
    batch = synthetic(config, mesh)
    for turn in range(arguments.steps + 2):
        for name in names:
            start = time.perf_counter()
            states[name], _ = jax.block_until_ready(steps[name](states[name], batch))
            if turn >= 2:
                times[name].append(time.perf_counter() - start)

    print(f"{arguments.config}, batch {config.batch_size}, {console.devices()}, jax {jax.__version__}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in names:
        speed = config.batch_size / medians[name]
        print(
            f"  {name:<10}  {1e3 * medians[name]:8.1f} ms a step  {speed:8.0f} images/s  {flops[name] / 1e9:9.2f} GFLOP"
        )
    ratio, flop_ratio = medians["with RePre"] / medians["baseline"], flops["with RePre"] / flops["baseline"]
    print(f"  RePre adds {ratio - 1:.1%} of time and {flop_ratio - 1:.1%} of FLOPs")


if __name__ == "__main__":
    run()
