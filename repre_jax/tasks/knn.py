"""k-NN of a frozen encoder: the features of the training records vote for the class of each test record.

Without labels, or without a test split, the effective rank of the features stands in its place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.builders import augmentation
from repre_jax.core.errors import Interrupted, UserError
from repre_jax.data import subset
from repre_jax.data.sources import DataSet
from repre_jax.evaluation import knn, rank
from repre_jax.pretrained import finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations, frozen
from repre_jax.report import evaluated
from repre_jax.running import lifecycle
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.signals import StopRequest
from repre_jax.system import runtime, terminal

RANK_RECORDS = 10_240  # as many as pre-training's own measure takes by default


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Measures, or goes on measuring, or just reports a finished evaluation; returns what result.json holds.

    workdir: absolute; gets config.json, starts.jsonl, features/ (kept, so that an interruption costs little) and
        result.json.
    Raises UserError for what cannot work, before anything is measured or written, also for a finished one of other
    weights, and Stopped after a signal.
    """
    evaluations.check(config)
    _check_ks(config.knn.k)
    found: list[Backbone] = []
    with lifecycle.begun(
        config,
        workdir,
        kind="evaluation",
        look=frozen.look,
        complete=lambda: found.append(finished.find(config, workdir)),
    ) as session:
        (source,) = found
        if session.past.result is not None:
            return session.report(
                evaluated.knn, lambda: frozen.weights(source), lambda: augmentation.open_dataset(config)
            )
        job = frozen.build(config, source)
        evaluations.check_classes(job.dataset)
        missing = _missing(job.dataset)
        how = f"k = {', '.join(map(str, config.knn.k))}; temperature {config.knn.temperature:g}"
        row = ("k-NN", how) if missing is None else ("effective rank", f"in place of k-NN: {missing}")
        session.announce(job.dataset, [*frozen.rows(config, job, source), row])
        session.record(job.dataset, step=0)
        with session.watched(job.mesh.size) as watchdog, StopRequest(job.mesh) as stop, frozen.stoppable(stop):
            measured = _measure(config, job, workdir, missing, lifecycle.asking(stop, watchdog, "Measuring"))
        seconds = measured.pop("seconds_before") + session.seconds()
        record = evaluations.record(config, source, job.dataset) | {
            "weights_sha256": job.weights,
            "seconds": seconds,
            "run": evaluations.knn_of_run(config, source.origin, job.dataset),
        }
        return session.finish(record | measured, evaluated.knn)


def _check_ks(ks: Sequence[int]) -> None:
    if not ks or not all(type(k) is int and k > 0 for k in ks):
        raise UserError(f"knn.k is {ks}.\n  expected: whole numbers above 0\n  change:   --config.knn.k='(10, 20)'")


def _missing(dataset: DataSet) -> str | None:
    """What k-NN lacks, None when nothing."""
    if not dataset.classes:
        return "training and test images have no labels in common"
    if dataset.test is None:
        return "there is no test split"
    return None if subset.labelled(dataset.test) else "the test split has no labels"


def _measure(
    config: ConfigDict, job: frozen.FrozenEncoder, workdir: Path, missing: str | None, should_stop: ShouldStop
) -> dict[str, Any]:
    """What result.json says besides evaluations.record: k-NN's accuracies by k, 0..1, or the effective rank."""
    train = frozen.extract(config, job, workdir, "train", should_stop, limit=RANK_RECORDS if missing else None)
    result = {
        "train_records": len(train.labels),
        "test_records": 0,
        "unreadable": train.unreadable,
        "knn_top1": None,
        "temperature": config.knn.temperature,
        "effective_rank": None,
        "effective_rank_because": missing,
        "seconds_before": train.seconds_before,
    }
    if missing:
        return result | {"effective_rank": rank.effective_rank(train.features)}
    test = frozen.extract(config, job, workdir, "test", should_stop)
    for split, found in (("train", train), ("test", test)):
        frozen.check_labels(split, found)
    with terminal.bar(len(test.labels), "voting", shown=runtime.is_main()) as bar:

        def before_chunk(done: float) -> None:
            bar.update(int(done) - bar.n)
            if should_stop():
                raise Interrupted("all images, during the vote")

        top1 = knn.accuracy(
            train.features,
            train.labels,
            test.features,
            test.labels,
            classes=job.dataset.classes or 0,
            ks=config.knn.k,
            mesh=job.mesh,
            temperature=config.knn.temperature,
            before_chunk=before_chunk,
        )
        bar.update(len(test.labels) - bar.n)
    return result | {
        "test_records": len(test.labels),
        "unreadable": train.unreadable + test.unreadable,
        "knn_top1": {str(k): value for k, value in top1.items()},
        "seconds_before": train.seconds_before + test.seconds_before,
    }
