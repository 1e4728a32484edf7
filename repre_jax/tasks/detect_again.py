"""A trained detector measured again, without training: on other images, by other tests (config.evaluate)."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.builders import config_checks
from repre_jax.builders import detection as builder
from repre_jax.core import sharding
from repre_jax.core.types import ObjectImages
from repre_jax.models.detection.mask_rcnn import Found
from repre_jax.pretrained import detector
from repre_jax.probing import detecting, frozen, measured_again
from repre_jax.probing.measured_again import Asked
from repre_jax.report import console, evaluated
from repre_jax.running import lifecycle


def run(config: ConfigDict, workdir: Path, asked: Asked) -> dict[str, Any]:
    """Measures the run that config.evaluate names, or just reports a finished measurement; returns what result.json
    holds.

    The data and the test, keys data.* and detect.test_*, are the run's where nobody sets them; what differs is said
    and recorded. What was trained is the run's. asked: what the command has set.
    Raises UserError for what cannot work, before anything is measured or written, and Stopped after a signal.
    """
    source = measured_again.source(config, workdir)
    config_checks.ranges(config)
    mesh = sharding.make_mesh(jax.device_count())
    found = detector.load(source, config.step, mesh, dtype=config.dtype, attention=config.encoder.attention)
    departures = measured_again.take_over(config, found.config, source, asked)
    config.evaluate, config.step = str(source), found.step
    builder.check(config)
    testing = builder.testing(config)
    weights = frozen.digest(found.params)
    with lifecycle.begun(config, workdir, kind="evaluation", look=frozen.look) as session:
        if session.past.result is not None:
            return session.report(evaluated.detected, lambda: weights, lambda: builder.open_data(config).dataset)
        data = detecting.open_data(config, found.mean, found.std)
        detecting.check_categories(found.categories, data)
        origin = {"init_from": str(source), "step": found.step}

        def detections(params: dict[str, Any], batch: ObjectImages) -> Found:
            return found.detections(params, batch, testing)

        whole = detecting.whole_split(config, data, mesh, detections)
        rows = [("devices", console.devices()), *detecting.rows(config, found.model.encoder, origin, data)]
        session.announce(data.dataset, [*rows, *measured_again.rows(departures)])
        session.record(data.dataset, step=found.step)
        with measured_again.measuring(session, mesh, images=whole.at_once, dtype=config.dtype) as should_stop:
            measured = whole.found(found.params, should_stop, config.data.max_unreadable)
        detecting.write(workdir, measured)
        detecting.warn_of_overflow(config, measured)
        result = {
            **detecting.record(config, origin, data),
            "departures": departures,
            "weights_sha256": weights,
            "seconds": session.seconds(),
            **detecting.result_of(measured),
        }
        return session.finish(result, evaluated.detected)
