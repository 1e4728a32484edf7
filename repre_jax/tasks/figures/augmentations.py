"""What a pre-training run's network sees."""

from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.core import run_files
from repre_jax.data import loader
from repre_jax.pretrained import backbone, weight_file
from repre_jax.report.figures import augmentations
from repre_jax.tasks import pretrain
from repre_jax.tasks.figures.subject import NotPossible


def draw(config: ConfigDict, records: int, name: str) -> Figure:
    """The first records of the run's first batch, after all augmentations and before normalisation: what RePre
    rebuilds. config: of pre-training. name: whose it is, for the title."""
    pretrain.check(config)
    job = pretrain.build(config)
    batches = loader.train_batches(
        job.dataset.train, job.train_view, seed=config.seed, batch_size=records, start_step=0, workers=0
    )
    pixels = jax.jit(job.step.method.augment)(jax.random.PRNGKey(config.seed), 0, next(batches))
    local = None if pixels.local is None else np.asarray(pixels.local)
    return augmentations.draw(np.asarray(pixels.views), local, title=f"Augmentations\n{name}")


def config_of(source: Path, ours: ConfigDict, seed: int | None, tasks: Collection[str] = ("pretrain",)) -> ConfigDict:
    """That of a run of one of these tasks, or of the run whose export has a card; with those keys of the data that
    `ours` sets, and a seed.

    Raises NotPossible when nothing says how the encoder was pre-trained.
    """
    found = weight_file.read_card(source).get("config") if run_files.is_file(source) else run_files.read_config(source)
    if not found or found.get("task") not in tasks:
        raise NotPossible(
            f"Nothing says how {source} was pre-trained.\n"
            "  expected: a pre-training run with its config.json, an export with its card, or\n"
            "            --config configs/moco_vit_s.py or another one, in place of it"
        )
    config = ConfigDict(backbone.tuples(found))
    for key in backbone.OF_RUNS:
        if ours.data.get(key) is not None:
            config.data[key] = ours.data[key]
    config.seed = config.seed if seed is None else seed
    return config
