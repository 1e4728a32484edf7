"""A trained segmentation measured again, without training: on other images, by other tests (config.evaluate)."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.builders import config_checks
from repre_jax.builders import segmentation as builder
from repre_jax.core import sharding
from repre_jax.evaluation.confusion import scores
from repre_jax.pretrained import segmenter
from repre_jax.probing import frozen, measured_again, segmenting
from repre_jax.probing.measured_again import Asked
from repre_jax.report import console, evaluated
from repre_jax.running import lifecycle


def run(config: ConfigDict, workdir: Path, asked: Asked) -> dict[str, Any]:
    """Measures the run that config.evaluate names, or just reports a finished measurement; returns what result.json
    holds.

    The data and the test, keys data.* and segment.test_*, are the run's where nobody sets them; what differs is said
    and recorded. What was trained is the run's. asked: what the command has set.
    Raises UserError for what cannot work, before anything is measured or written, and Stopped after a signal.
    """
    source = measured_again.source(config, workdir)
    config_checks.ranges(config)
    mesh = sharding.make_mesh(jax.device_count())
    found = segmenter.load(
        source, config.step, mesh, dtype=config.dtype, attention=config.encoder.get("attention", "xla")
    )
    departures = measured_again.take_over(config, found.config, source, asked)
    config.evaluate, config.step = str(source), found.step
    builder.check(config)
    weights = frozen.digest(found.variables)
    with lifecycle.begun(config, workdir, kind="evaluation", look=frozen.look) as session:
        if session.past.result is not None:
            return session.report(evaluated.segmented, lambda: weights, lambda: builder.open_data(config).dataset)
        data = segmenting.open_data(config, found.mean, found.std)
        segmenting.check_classes(found, data)
        origin = {"init_from": str(source), "step": found.step}
        whole = segmenting.whole_images(config, data, mesh, found.logits, found.head.align_corners)
        rows = [("devices", console.devices()), *segmenting.rows(config, found.encoder, origin, data)]
        session.announce(data.dataset, [*rows, *measured_again.rows(departures)])
        session.record(data.dataset, step=found.step)
        with measured_again.measuring(session, mesh, images=whole.at_once, dtype=config.dtype) as should_stop:
            matrix, images = whole.confusion(found.variables, should_stop, config.data.max_unreadable)
        result = {
            **segmenting.record(config, origin, data),
            "departures": departures,
            "weights_sha256": weights,
            "seconds": session.seconds(),
            **segmenting.result_of((scores(matrix), matrix, images), data.classes),
        }
        return session.finish(result, evaluated.segmented)
