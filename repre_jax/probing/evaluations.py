"""What all evaluations of an encoder share: their config's faults, the data, what is said and recorded of both."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import attention, augmentation, config_checks, methods
from repre_jax.core import config_paths, run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.data import deep, sources, subset
from repre_jax.data.crops import ENLARGE
from repre_jax.data.sources import DataSet
from repre_jax.models import encoders
from repre_jax.pretrained.backbone import Backbone
from repre_jax.report import console
from repre_jax.running import lifecycle, resume, same_data
from repre_jax.system import terminal

# What a head, or an encoder with one, that was trained for some steps cannot change.
FIXED_KEYS = (
    *("init_from", "step", "network", "feature", "linear", "finetune", "encoder", "data.labels", "data.draw"),
    *("data.classes", "data.class_names"),  # of the data set's identity
)
# Keys of config.published that no publication knows.
OURS = ("linear.cached", "linear.factors", "linear.held_out", "linear.untrained", "linear.pixels")
OF_SPLITS = ("name", "train_split", "test_split")  # keys of data that say which records are meant
OF_DATA = ("labels", "draw", "image_size", "channels", "test_crop", "test_interpolation", "mean", "std")


def check(config: ConfigDict) -> Mesh:
    """The devices. Raises UserError for whatever can be seen to be wrong without the encoder and the data."""
    config_checks.ranges(config)
    methods.choose("data.test_interpolation", config.data.test_interpolation, ENLARGE)
    resume.check_names(config.may_change, resume.plain(config))
    return sharding.make_mesh(config.batch_size, config.get("accumulate", 1))


def with_attention(
    config: ConfigDict, found: Backbone, workdir: Path, size: tuple[int, int], *, learns: bool = True
) -> tuple[Backbone, dict[str, Any]]:
    """The encoder with the kind of attention that it is to be trained by on images of `size`, or read by where it is
    frozen and learns nothing; and what the record of this start says of that."""
    lifecycle.check_alone(config, workdir)
    encoder, record = attention.of_trained(config, found.encoder, workdir, size, learns=learns)
    return dataclasses.replace(found, encoder=encoder), record


def open_data(config: ConfigDict, found: Backbone) -> DataSet:
    """With the part of its training records that is wanted; completes data.mean and data.std.

    Raises UserError when it is missing, unfit or, where only a part of the labels is wanted, has none.
    """
    augmentation.image_size(config)
    if config.data.name is None:
        raise UserError(
            "data.name is not set.\n  change:   --config.data.name=imagenet2012, folder:PATH or another one"
        )
    config.data.train_split = config.data.train_split or "train"
    dataset = augmentation.open_dataset(config)
    for line in _changed_since(config, found, dataset):
        terminal.say(f"Note: the data set is not as the encoder's run saw it: {line}")
    if other := _other_range(found, dataset):
        terminal.warn(other)
    warn_of_shared(config, dataset)
    if untrained := _untrained_feature(config, found):
        terminal.warn(untrained)
    config.data.mean, config.data.std = config.data.mean or found.mean, config.data.std or found.std
    config.data.mean, config.data.std = methods.normalisation(config, dataset)
    train = subset.balanced(dataset.train, config.data.labels, config.data.draw)
    return dataclasses.replace(dataset, train=train)


def warn_of_shared(config: ConfigDict, dataset: DataSet) -> None:
    """Warns where test images are among the training images."""
    if dataset.test_split == config.data.train_split:
        terminal.warn(
            f"Warning: the test images are the training images, split {dataset.test_split!r} of {dataset.name}."
        )
    elif dataset.test_split and sources.share_records(config.data.train_split, dataset.test_split):
        terminal.warn(
            f"Warning: test images are among the training images: split {config.data.train_split!r} holds some of "
            f"{dataset.test_split!r} of {dataset.name}."
        )


def _changed_since(config: ConfigDict, found: Backbone, dataset: DataSet) -> list[str]:
    """What differs from the data of the run, where these are its own splits of them. None of it is an error."""
    run = found.origin.get("init_from")
    theirs = run_files.read_config(config_paths.typed(run), ("data",)) if run else None
    if not run or not theirs:
        return []
    if not all(config_paths.same(f"data.{key}", theirs["data"].get(key), config.data[key]) for key in OF_SPLITS):
        return []
    lines = same_data.since_last_start(resume.History(described=run_files.read_data(config_paths.typed(run))), dataset)
    return [line for line in lines if not (found.value_range and line.startswith("data.value_range:"))]  # _other_range


def _other_range(found: Backbone, dataset: DataSet) -> str | None:
    """What to say where images of more than 8 bits are seen by another range of values than the encoder was trained
    with, or than `prepare` measured in them. None of it is an error: the range of the encoder is taken unless another
    one is set."""
    theirs, ours, measured = found.value_range, dataset.value_range, dataset.measured_range
    if theirs and ours and not deep.alike(theirs, ours):
        return (
            f"Warning: images of more than 8 bits are seen by values {deep.in_words(ours)}, and the encoder was "
            f"trained by {deep.in_words(theirs)}.\n  change:   leave data.value_range out"
        )
    if theirs and measured and not deep.alike(theirs, measured) and not deep.has_deep(dataset.train):
        flags = " ".join(f"--value-range {low:.9g} {high:.9g}" for low, high in theirs)
        return (
            f"Warning: {dataset.name} was stored with 8 bits, by values {deep.in_words(measured)}, and the encoder was "
            f"trained by {deep.in_words(theirs)}.\n  change:   prepare it again, with {flags}"
        )
    if theirs and measured and not deep.alike(theirs, measured):
        return (
            f"Note: {dataset.name} has values {deep.in_words(measured)}; they are seen by those that the encoder was "
            f"trained by, {deep.in_words(theirs)}.\n"
            f"  change:   --config.data.value_range='{deep.as_key(measured)}', if its brightest are to be white"
        )
    return None


def _untrained_feature(config: ConfigDict, found: Backbone) -> str | None:
    """What to say where the feature holds a class token, and the encoder was fine-tuned by a head on its patch tokens,
    so that nothing has trained that token for the classes. None of it is an error."""
    theirs, encoder = found.trained, found.encoder
    if theirs is None or "finetune" not in theirs or found.origin["step"] is None:
        return None
    reads_token = "cls" in config.feature or (config.feature == "pooled" and getattr(encoder, "class_token", False))
    if not theirs.finetune.mean_then_norm or not reads_token:
        return None
    return (
        f"Note: {found.origin['init_from']} was fine-tuned on the mean of its patch tokens, and feature "
        f"{config.feature} holds a class token that no head has read.\n  change:   --config.feature=mean"
    )


def check_classes(dataset: DataSet) -> None:
    """Raises UserError when a split has classes of train's and others: none of its images would have a label."""
    if dataset.lacking:
        raise UserError(
            f"Data set {dataset.name}: {dataset.lacking}.\n"
            "  expected: a folder in train for each class of another split\n"
            "  change:   add images of them to train, or take them out of the split; or --config.data.test_split"
        )


def rows(config: ConfigDict, found: Backbone, dataset: DataSet, width: int | None = None) -> list[console.Row]:
    """Rows of an evaluation's first table: what is judged, by a feature of `width` numbers, and on what."""
    numbers = f", {width:,} numbers" if width else ""
    train = len(dataset.train)
    part = f"{config.data.labels:.4g} of the labels, draw {config.data.draw}: {train:,} training records"
    identity = dataset.identity() | {"train_records": train}
    return [
        ("encoder", encoders.describe(found.encoder)),
        ("", console.origin(found.origin)),
        ("feature", f"{config.feature}{numbers}; matrix products in {config.dtype}"),
        ("data set", console.dataset(identity, dataset.directory, dataset.classes)),
        *([("", part)] if config.data.labels < 1 else []),
        ("test images", console.test_images(resume.plain(config)["data"])),
    ]


def record(config: ConfigDict, found: Backbone, dataset: DataSet) -> dict[str, Any]:
    """What any result depends on, for result.json."""
    settings = resume.plain(config)
    return {
        "task": config.task,
        "origin": found.origin,
        "feature": config.feature,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "encoder": methods.architecture(settings["encoder"]),
        "data_set": dataset.identity(),
        "train_split": config.data.train_split,
        "test_split": dataset.test_split,
        **{key: settings["data"][key] for key in OF_DATA},
        **({"value_range": dataset.value_range} if dataset.value_range else {}),
    }


def training_record(config: ConfigDict, records: int) -> dict[str, Any]:
    """What the result of an evaluation that trains depends on besides; `records` are trained on."""
    settings, lr, batch_size = resume.plain(config), config.optim.lr, config.batch_size
    return {
        "trained_on": records,
        "lr": lr * batch_size / 256,
        "lr_rule": f"{lr:g} x {batch_size} / 256",
        "drop_path": config.encoder.drop_path,
        **{key: settings[key] for key in settings["published"] if key not in ("encoder", "data")},
        "departures": deviations(config),
    }


def dense_record(
    config: ConfigDict, origin: dict[str, Any], dataset: DataSet, group: str, keys: Sequence[str]
) -> dict[str, Any]:
    """What any result of a dense task depends on. group: of config, whose keys test_* say how it is tested. keys: of
    config.data."""
    settings = resume.plain(config)
    return {
        "task": config.task,
        "origin": origin,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "encoder": methods.architecture(settings["encoder"]),
        "data_set": dataset.identity(),
        "train_split": config.data.train_split,
        "test_split": dataset.test_split,
        **{key: settings["data"][key] for key in keys},
        "test": {key: value for key, value in settings[group].items() if key.startswith("test_")},
    }


def deviations(config: ConfigDict) -> list[str]:
    """What was changed of the published protocol or recipe: 'batch_size 64 instead of 1024', 'total_steps 6, which is
    not set there', 'optim.clip_norm not set instead of 5.0'."""
    settings = resume.plain(config)
    published, settings = run_files.flat(settings["published"]), run_files.flat(settings)
    unused = ("augment.", "encoder.drop_path") if settings.get("linear.cached") else "none."
    return [
        instead_of(key, settings[key], was)
        for key, was in published.items()
        if settings[key] != was and key not in OURS and not key.startswith(unused)
    ]


def instead_of(key: str, now: Any, was: Any) -> str:
    """For example 'batch_size 64 instead of 1024'."""
    value = "not set" if now is None else repr(now)
    return f"{key} {value}{', which is not set there' if was is None else f' instead of {was!r}'}"


def check_name(config: ConfigDict, key: str, file: str) -> None:
    """Raises UserError when the protocol or recipe got another name than the settings belong to."""
    group, name = key.split(".")
    theirs = config.published[group][name]
    if config[group][name] != theirs:
        raise UserError(
            f"{key} is {config[group][name]!r}, and the settings are those of {theirs!r}.\n"
            f"  change:   --config {file}:NAME, with NAME a variant that its first lines list"
        )


def knn_of_run(config: ConfigDict, origin: dict[str, Any], dataset: DataSet) -> dict[str, Any] | None:
    """What the run itself measured of its online encoder after its last step; None where that is another step, network,
    data set, part of it or image size, or the data set's classes or files have changed since."""
    run = config_paths.typed(origin["init_from"])
    result = run_files.read_json(run / run_files.RESULT, ("knn_top1", "knn_k", "steps"))
    theirs = run_files.read_config(run, ("data", "knn"))
    if not result or not theirs or result["knn_top1"] is None:
        return None
    ours = resume.plain(config)["data"]
    same = all(config_paths.same(f"data.{key}", theirs["data"][key], ours[key]) for key in (*OF_SPLITS, "image_size"))
    same = same and not same_data.other_contents(run_files.read_data(run), dataset)
    if not same or (result["steps"], "online") != (origin["step"], origin["branch"]):
        return None
    measured = ("knn_top1", "knn_top1_untrained", "knn_top1_pixels", "knn_top1_hog", "knn_k")
    return {key: result.get(key) for key in measured}  # older runs have no knn_top1_hog
