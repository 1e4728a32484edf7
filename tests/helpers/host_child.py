"""One of two real processes, for test_hosts.py.

python tests/helpers/host_child.py COORDINATOR PROCESS measure DATA_DIR: writes its part to DATA_DIR-PROCESS.json
python tests/helpers/host_child.py "" 0 alone DATA_DIR: writes what one process gives to DATA_DIR-alone.json
python tests/helpers/host_child.py COORDINATOR PROCESS loop FOLDER: the loop with a step of one addition, for ever
"""

import contextlib
import hashlib
import itertools
import sys
import time
from pathlib import Path

import jax
import numpy as np

import main
from repre_jax.core import sharding
from repre_jax.core.errors import Interrupted, Stopped, UserError
from repre_jax.core.run_files import MetricsFile, write_json
from repre_jax.data import loader
from repre_jax.data.views import CentreView
from repre_jax.evaluation import features, knn, store
from repre_jax.evaluation.batches import eval_batches, images_and_labels
from repre_jax.running import loop, training_task
from repre_jax.running.agreement import Agreement
from repre_jax.running.signals import StopRequest
from repre_jax.running.watchdog import Watchdog
from repre_jax.system import runtime
from repre_jax.system.command_line import exit_status
from repre_jax.tasks import pretrain

TINY = ["main.py", "--config", "configs/moco_vit_s.py:tiny", "--config.knn.test_records=21"]


def rows(array):
    """Number of each of this process's rows of a global array -> a digest of its bytes."""
    return {
        shard.index[0].indices(len(array))[0] + place: hashlib.md5(row.tobytes()).hexdigest()
        for shard in array.addressable_shards
        for place, row in enumerate(np.asarray(shard.data))
    }


def measure(data_dir):
    config, _ = main.parse([*TINY, f"--config.data.dir={data_dir}"])
    job = pretrain.build(config)
    batches = training_task.image_batches(
        config, job.dataset.train, job.train_view, job.step.mesh, 88, print
    )  # an epoch ends
    evaluation = job.monitor
    pixels = jax.jit(
        lambda images: images.reshape(len(images), -1)[:, ::7], out_shardings=sharding.replicated(job.step.mesh)
    )
    found, labels = features.extract(pixels, evaluation._batches(job.dataset.test, 21, "test images"), job.step.mesh)
    kept = keep(pixels, job, data_dir / f"features-{jax.process_count()}", found.shape[1])
    bank = np.random.default_rng(0).permutation(found)
    judged = knn.accuracy(bank, labels[::-1], found, labels, classes=10, ks=(1, 3, 8), mesh=job.step.mesh)
    state = job.step.init_state()
    measured = evaluation.reconstruction(state)
    return {
        "batches": [rows(batch.images) for batch in itertools.islice(batches, 3)],
        "labels": labels.tolist(),
        "features": hashlib.md5(found.tobytes()).hexdigest(),
        "kept": hashlib.md5(kept.features.tobytes()).hexdigest(),
        "kept_labels": kept.labels.tolist(),
        "knn": judged,
        "rebuilt": [measured.l1, measured.l1_mean_colour, measured.views.shape[0]],
        "key": np.asarray(state.rng).tolist(),
    }


def keep(encode, job, folder, width):
    """The features of the same images from files; they were left off after the first of two batches."""

    def extract(answers):
        return store.stored(
            folder,
            {},
            encode,
            lambda start, on_unreadable: images_and_labels(
                eval_batches(
                    job.dataset.test,
                    CentreView((32, 32), 1.0),
                    16,
                    "images",
                    lambda: next(answers),
                    limit=21,
                    start=start,
                    on_unreadable=on_unreadable,
                )
            ),
            store.Pass(loader.numbers(len(job.dataset.test), 21), 16, width, readable=None),
            mesh=job.step.mesh,
        )

    with contextlib.suppress(Interrupted):
        extract(iter([False, True]))
    return extract(iter([False]))


def agree(process):
    job = pretrain.build(main.parse(TINY)[0])
    agreement = Agreement(job.step.mesh)
    return {
        "lagging": [agreement.lagging(number) for number in ((0, 0, 0, 0), (0, 15, 0, 2))[process]],
        "now": [agreement.now(number) for number in ((0, 2), (0, 0))[process]],
    }


def differ(process):
    try:
        runtime.check_same("mood", {"now": "good"})
        runtime.check_same("number", {"mine": process, "same": 1})
    except UserError as error:
        return str(error)


def run_loop(folder, patience):
    mesh = sharding.make_mesh(2)
    total = jax.jit(
        lambda state, batch: (state + batch.sum(), {"loss": state}), out_shardings=sharding.replicated(mesh)
    )
    batches = (sharding.shard_batch(np.ones(1, np.float32), mesh) for _ in itertools.count())
    log = MetricsFile(folder / "metrics.jsonl", 0).write if runtime.is_main() else lambda step, values: None
    slow = (time.sleep(0.05) or batch for batch in batches)
    with Watchdog(patience, runtime.label(), runtime.end_process) as watchdog, StopRequest(mesh) as stop:
        _, step = loop.fit(
            total,
            np.float32(0),
            slow,
            start_step=0,
            total_steps=10_000,
            batch_size=2,
            log_steps=loop.every(1, 10_000),
            log=log,
            hooks=(),
            after=lambda *_: None,
            stop=stop,
            watchdog=watchdog,
        )
        raise Stopped(f"Stopped after step {step}.", stop.signal)


def run():
    coordinator, process, what, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    if what == "alone":
        write_json(path.with_name(f"{path.name}-alone.json"), measure(path))
        return
    patience = 4 if what == "hang" else 60  # seconds
    with runtime.started(coordinator=coordinator, processes=2, process=process, timeout=60, step_timeout=patience):
        if what in ("loop", "hang"):
            run_loop(path, patience)
        else:
            result = measure(path) | agree(process) | {"differ": differ(process), "main": runtime.is_main()}
            write_json(path.with_name(f"{path.name}-{process}.json"), result)


if __name__ == "__main__":
    sys.exit(exit_status(run, "Interrupted."))
