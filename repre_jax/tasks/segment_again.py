"""A trained segmentation measured again, without training: on other images, by other tests (config.evaluate)."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.builders import segmentation as builder
from repre_jax.core import config_paths, sharding
from repre_jax.core.errors import Interrupted, Stopped, UserError
from repre_jax.evaluation.confusion import scores
from repre_jax.pretrained import segmenter
from repre_jax.pretrained.segmenter import Segmenter
from repre_jax.probing import frozen, segmenting
from repre_jax.report import console, evaluated
from repre_jax.running import lifecycle
from repre_jax.running.signals import StopRequest
from repre_jax.system import environment, terminal

OF_TRAINED = ("image_size", "channels", "mean", "std", "value_range")  # keys of data: what the network sees is its own


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Measures the run that config.evaluate names, or just reports a finished measurement; returns what result.json
    holds.

    The data and the test are the config's, keys data.* and segment.test_*; what was trained is the run's.
    Raises UserError for what cannot work, before anything is measured or written, and Stopped after a signal.
    """
    source = config_paths.absolute(config.evaluate)
    if source == workdir:
        raise UserError(f"evaluate is the workdir itself, {workdir}.\n  change:   --workdir, to another folder")
    mesh = sharding.make_mesh(config.batch_size)
    found = segmenter.load(source, config.step, mesh)
    _complete(config, found, source)
    weights = frozen.digest(found.variables)
    with lifecycle.begun(config, workdir, kind="evaluation", look=frozen.look) as session:
        if session.past.result is not None:
            return session.report(evaluated.segmented, lambda: weights, lambda: builder.open_data(config).dataset)
        data = segmenting.open_data(config, found.mean, found.std)
        segmenting.check_classes(found, data)
        origin = {"init_from": str(source), "step": found.step}
        whole = segmenting.whole_images(config, data, mesh, found.logits, found.head.align_corners)
        rows = [("devices", console.devices()), *segmenting.rows(config, found.encoder, origin, data)]
        session.announce(data.dataset, rows)
        session.record(data.dataset, step=found.step)
        with session.watched(mesh.size) as watchdog, StopRequest(mesh) as stop:
            try:
                matrix, images = whole.confusion(
                    found.variables, lifecycle.asking(stop, watchdog, "Measuring"), config.data.max_unreadable
                )
            except Interrupted as interrupted:
                again = f"The same command begins again:\n  {environment.command()}"
                raise Stopped(f"Stopped after {interrupted}; nothing is kept.\n  {again}", stop.number) from None
        result = {
            **segmenting.record(config, origin, data),
            "weights_sha256": weights,
            "seconds": session.seconds(),
            **segmenting.result_of((scores(matrix), matrix, images), data.classes),
        }
        return session.finish(result, evaluated.segmented)


def _complete(config: ConfigDict, found: Segmenter, source: Path) -> None:
    """Sets what was trained to the run's, and says where the config has something else."""
    theirs = found.config
    config.evaluate, config.step = str(source), found.step
    others = []
    for key in ("init_from", "network", "dtype", "seed"):
        others += _other(key, config[key], theirs[key])
        config[key] = theirs[key]
    for group, names in (
        ("encoder", list(theirs.encoder)),
        ("segment", list(segmenting.TRAINED)),
        ("data", OF_TRAINED),
    ):
        for name in names:
            others += _other(f"{group}.{name}", config[group][name], theirs[group][name])
            config[group][name] = theirs[group][name]
    if others:
        terminal.warn(f"What was trained is measured as it was trained: {'; '.join(others)}.")
    builder.check(config)  # the crop is the run's: strides may be beyond it


def _other(key: str, given: Any, theirs: Any) -> list[str]:
    """Nothing where the key is not set, or the run has the same."""
    return [] if given is None or given == theirs else [f"{key} is {theirs}, not {given}"]
