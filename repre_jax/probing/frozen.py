"""What the tasks on a trained encoder share: the workdir and what it holds already, the encoder, its features."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import run_files, sharding
from repre_jax.core.errors import Interrupted, Stopped, UserError
from repre_jax.data import loader, photometric, subset
from repre_jax.data.sources import DataSet
from repre_jax.data.unreadable import SHOWN, what_is_wrong
from repre_jax.evaluation import store
from repre_jax.evaluation.batches import eval_batches, images_and_labels
from repre_jax.models import features
from repre_jax.models.encoders import Encoder
from repre_jax.pretrained.backbone import Backbone
from repre_jax.pretrained.digest import digest
from repre_jax.probing import begun_with, evaluations
from repre_jax.probing.begun_with import Begun
from repre_jax.report import console
from repre_jax.running import memory, resume
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.resume import History
from repre_jax.running.signals import StopRequest
from repre_jax.system import environment, runtime, terminal

# What a workdir holds of an evaluation that has begun, or of another run: begun with another config it would be lost.
RESUME_MARKERS = (run_files.RESULT, f"{run_files.CHECKPOINTS}/*", f"{run_files.FEATURES}/*/{store.PROGRESS}")


@dataclass(frozen=True)
class FrozenEncoder:
    """The encoder with its weights, float32 and whole on each device, and the data that it is judged on.

    mean, std: per channel, that pixels in 0..1 are normalised by. weights: SHA-256 of the parameters.
    """

    mesh: Mesh
    dataset: DataSet
    encoder: Encoder
    params: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str


def look(workdir: Path, settings: dict[str, Any]) -> History:
    """What the workdir holds of an evaluation that does not train: its result, if it is finished with these settings.

    Raises UserError when it was begun with other settings than may_change names.
    """
    before, described = run_files.read_config(workdir), run_files.read_data(workdir)
    if before is None or not any(run_files.matching(workdir, pattern) for pattern in RESUME_MARKERS):
        return History()
    changed = resume.check_unchanged(before, settings, "config", settings["may_change"], workdir=workdir)
    result = None if changed else run_files.read_json(workdir / run_files.RESULT, ("task", "seconds"))
    return History(result=result, changed=changed, described=described)


def build(config: ConfigDict, found: Backbone) -> FrozenEncoder:
    """Opens the data and loads the encoder. Raises UserError as evaluations.open_data does, and for a feature that the
    encoder does not have."""
    features.check(found.encoder, config.feature)
    dataset = evaluations.open_data(config, found)
    mesh = sharding.make_mesh(config.batch_size)
    return job_of(config, found.encoder, found.load(mesh), dataset, mesh)


def job_of(config: ConfigDict, encoder: Encoder, params: dict[str, Any], dataset: DataSet, mesh: Mesh) -> FrozenEncoder:
    """Of data that evaluations.open_data has opened."""
    return FrozenEncoder(mesh, dataset, encoder, params, config.data.mean, config.data.std, digest(params))


def weights(found: Backbone) -> str:
    """SHA-256 of an encoder's parameters, whatever the batch size is."""
    return digest(found.load(sharding.make_mesh(jax.device_count())))


def check_frozen(jobs: Sequence[FrozenEncoder]) -> None:
    """Raises RuntimeError when one of these encoders is not, to the bit, what it was."""
    if any(digest(job.params) != job.weights for job in jobs):
        raise RuntimeError("A frozen encoder has changed: a fault of this program.")


def rows(config: ConfigDict, job: FrozenEncoder, found: Backbone) -> list[console.Row]:
    """The first lines of the table that an evaluation of it begins with."""
    return [
        ("devices", f"{console.devices()}, {config.batch_size // job.mesh.size:,} images each at once"),
        *evaluations.rows(config, found, job.dataset, width(config, job)),
    ]


def encode(config: ConfigDict, job: FrozenEncoder) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
    """(params, uint8 [B, H, W, C]) -> the config's feature, float32 [B, D]; to be jitted."""

    def feature_of(params: dict[str, Any], images: jax.Array) -> jax.Array:
        pixels = photometric.normalize(images.astype(jnp.float32) / 255, job.mean, job.std)
        return features.extract(job.encoder, config.feature, params, pixels)

    return feature_of


def width(config: ConfigDict, job: FrozenEncoder) -> int:
    """Of the config's feature. Raises UserError when the encoder does not take images of the config's size."""
    images = jax.ShapeDtypeStruct((1, *augmentation.image_size(config), config.data.channels), np.uint8)
    return jax.eval_shape(encode(config, job), job.params, images).shape[1]


def extract(
    config: ConfigDict,
    job: FrozenEncoder,
    workdir: Path,
    split: str,
    should_stop: ShouldStop,
    limit: int | None = None,
    begun: Begun | None = None,
) -> store.Split:
    """The features of 'train' or 'test', at most `limit` records of it, kept in workdir/features/SPLIT.

    begun: None unless something was trained on them.

    Raises Interrupted when it should stop, and UserError when too many records cannot be read, or others than before
    something was trained on them.
    """
    folder, source = workdir / run_files.FEATURES / split, job.dataset.split(split)
    without = None if begun is None else begun.without(folder)
    runtime.largest(len(without or ()))  # all have read it before process 0 writes
    if without:
        source = subset.Without(source, frozenset(without))
    numbers = loader.numbers(len(source), limit)
    view = augmentation.build_test_view(config)
    rows = {"batch_size": config.batch_size, "limit": limit}
    one = jax.jit(sharding.in_chunks(encode(config, job), job.mesh), out_shardings=sharding.replicated(job.mesh))
    settings = resume.plain(config)
    made_from = {
        "weights": job.weights,
        "encoder": methods.architecture(settings["encoder"]),
        **{key: settings[key] for key in ("feature", "dtype")},
        "data set": [job.dataset.name, job.dataset.version, config.data[f"{split}_split"], len(source)],
        store.CONTENTS: [job.dataset.identity().get(key) for key in ("class_names", f"{split}_content")],
        "part of the labels": [config.data.labels, config.data.draw] if split == "train" else None,
        "crop": dataclasses.asdict(view) | rows,
        "mean": job.mean,
        "std": job.std,
    }
    if job.dataset.value_range:  # not for others, whose features were stored before there was one
        made_from["value range"] = job.dataset.value_range
    with memory.explained(batch_size=config.batch_size, devices=job.mesh.size):
        found = store.stored(
            folder,
            made_from,
            lambda images: one(job.params, images),
            lambda start, on_unreadable: images_and_labels(
                eval_batches(
                    source,
                    view,
                    config.batch_size,
                    f"{split} images",
                    should_stop,
                    limit=limit,
                    start=start,
                    on_unreadable=on_unreadable,
                )
            ),
            store.Pass(
                numbers,
                config.batch_size,
                width(config, job),
                None if begun else lambda number: loader.test_sample(source, view, number) is not None,
                without,
            ),
            job.mesh,
        )
    if without is not None:
        begun_with.check(job.dataset.split(split), config.data.channels, found, split, without)
    _check_readable(config, job, found, split, begun is not None)
    return found


def check_labels(split: str, found: store.Split) -> None:
    """Raises UserError when a record has none."""
    if missing := int((found.labels < 0).sum()):
        raise UserError(
            f"{missing:,} of {len(found.labels):,} {split} records have no label.\n"
            f"  change:   --config.data.{split}_split to records that have one"
        )


@contextlib.contextmanager
def stoppable(stop: StopRequest) -> Iterator[None]:
    """Turns an interrupted extraction into Stopped, with the way to go on."""
    try:
        yield
    except Interrupted as interrupted:
        raise Stopped(
            f"Stopped after {interrupted}; their features are kept.\n"
            f"  The same command goes on from there:\n  {environment.command()}",
            stop.number,
        ) from None


def _check_readable(config: ConfigDict, job: FrozenEncoder, found: store.Split, split: str, begun: bool) -> None:
    """Names the records that have no features. Raises UserError when they are too many."""
    if not found.unreadable:
        return
    records, source = found.unreadable + len(found.labels), job.dataset.split(split)
    which = f"{found.unreadable:,} of {records:,} {split} records could not be read"
    lines = [what_is_wrong(source, number, config.data.channels) for number in found.left_out[:SHOWN]]
    named = "".join(f"\n  {line}" for line in lines)
    if found.unreadable > math.floor(config.data.max_unreadable * records) or not len(found.labels):
        data = "--workdir to another folder, once the data are mended" if begun else "the data"
        raise UserError(
            f"{which}.{named}\n  change:   {data}, or --config.data.max_unreadable to a larger share of the records"
        )
    stay = ", and stay so in what has been trained without them" if begun else ""
    terminal.warn(f"Warning: {which} and are left out{stay}.{named}")
