"""Writes losses.json: the losses of a few steps, as the code computed them before it was made faster.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_DISABLE_MOST_OPTIMIZATIONS=1 python -m tests.golden.losses

What is there was written at commit 25bb9b9, on the CPU with eight fake devices, jax 0.10.2. To be written anew only
where a change is meant to change results, never for speed.
"""

import json
from pathlib import Path

import jax
import numpy as np

import main
from repre_jax.builders import augmentation, methods
from repre_jax.core.types import Views
from tests.helpers.versions import HAS_OLD_LOOPS, OLD_LOOPS

FILE = Path(__file__).with_suffix(".json")
STEPS = 3
# As usual; tests/conftest.py turns it off, which rounds otherwise.
COMPILED: dict[str, bool] = {OLD_LOOPS: True} if HAS_OLD_LOOPS else {}
LOGGED = ("loss", "contrastive", "reconstruction", "gradient_norm")
COLOURS = (  # every operation of the device's augmentation, which the digits go without
    "--config.augment.jitter=(0.4,0.4,0.2,0.1)",
    "--config.augment.grey_probability=0.2",
    "--config.augment.flip_probability=0.5",
)
TWO = ("--config.augment.blur_probability=(1.0,0.1)", "--config.augment.solarize_probability=(0.0,0.2)")
THREE = ("--config.augment.blur_probability=(1.0,0.1,0.5)", "--config.augment.solarize_probability=(0.0,0.2,0.0)")
FOUR = ("--config.encoder.depth=(4,)", "--config.encoder.pyramid_levels=4")  # blocks, which tiny had then
CASES = {
    "moco_vit_s": ("configs/moco_vit_s.py:tiny", *FOUR, *COLOURS, *TWO),
    "moby_swin_t": ("configs/moby_swin_t.py:tiny", *COLOURS, *TWO, "--config.encoder.drop_path=0.2"),
    "moco_swin_t, transformer": ("configs/moco_swin_t.py:transformer2,tiny", *COLOURS, *TWO),
    "dino_vit_s": ("configs/dino_vit_s.py:tiny", *FOUR, *COLOURS, *THREE),
    "simclr_vit_s": ("configs/simclr_vit_s.py:tiny", *FOUR, *COLOURS, *TWO),
    "moco_vit_s, two parts": ("configs/moco_vit_s.py:tiny", *FOUR, *COLOURS, *TWO, "--config.accumulate=2"),
}


def losses(name: str) -> list[dict[str, float]]:
    """Of STEPS steps on random images, float32, on one device."""
    path, *overrides = CASES[name]
    config, _ = main.parse(["losses", f"--config={path}", *overrides])
    method = methods.build_method(config, methods.build_plan(config, records=128))
    rng = np.random.default_rng(0)
    size, count = augmentation.image_size(config), config.augment.local_views
    images = rng.integers(0, 256, (STEPS, config.batch_size, 2, *size, 3), np.uint8)
    local = rng.integers(0, 256, (STEPS, config.batch_size, count, *config.augment.local_size, 3), np.uint8)
    labels = np.zeros(config.batch_size, np.int32)
    init = jax.jit(lambda key: method.init_state(key, (*size, 3)), compiler_options=COMPILED)
    state = init(jax.random.PRNGKey(0))
    step, rows = jax.jit(method.train_step, compiler_options=COMPILED), []
    for number in range(STEPS):
        state, metrics = step(state, Views(images[number], labels, local[number] if count else None))
        rows.append({key: float(metrics[key]) for key in LOGGED})
    return rows


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(name) for name in CASES}, indent=1) + "\n")
