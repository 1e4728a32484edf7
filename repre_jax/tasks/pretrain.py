"""Pre-training: from a config to a trained encoder, its checkpoints and its results.

The loop (train/loop.py) calls the step (train/pretrain.py), which calls the framework and RePre's branch.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from repre_jax.core import metrics, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Stopped
from repre_jax.core.types import TrainState
from repre_jax.data import loader, sources
from repre_jax.report import console, figures
from repre_jax.tasks import history, setup
from repre_jax.tasks.online import Evaluation
from repre_jax.train import loop
from repre_jax.train.signals import StopRequest


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains, or goes on training, or just reports a finished run; returns what result.json holds.

    workdir: absolute; gets config.json, metrics.jsonl, checkpoints/, reconstructions.png and result.json.
    Raises UserError for what cannot work, before anything is trained, and Stopped after a signal.
    """
    started = time.perf_counter()
    settings = history.plain(config)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
    first_step = checkpoints.latest_step() or 0
    record = checkpoints.record(first_step) if first_step else {"config": settings, "data": {}, "seconds": 0.0}
    history.check_unchanged(record["config"], settings, "config")
    finished = workdir / "result.json"
    if first_step and finished.exists():
        result = json.loads(finished.read_text())
        print(f"This run is finished. Its summary:\n{console.summary(result)}", flush=True)
        return result

    mesh = sharding.make_mesh(config.batch_size)
    encoder = setup.build_encoder(config)
    train_view = setup.build_train_view(config)
    dataset = sources.open_dataset(config.data.name, config.data.dir, config.data.train_split, config.data.test_split)
    if first_step:
        history.check_unchanged(record["data"], dataset.identity(), "data set")
    plan = setup.build_plan(config, records=len(dataset.train))
    method = setup.build_method(config, encoder, plan)

    key = jax.random.PRNGKey(config.seed)
    everywhere = sharding.replicated(mesh)
    init = jax.jit(lambda key: method.init_state(key, (*train_view.size, setup.CHANNELS)), out_shardings=everywhere)
    shapes = jax.eval_shape(init, key)
    evaluation = Evaluation(
        method,
        dataset,
        mesh,
        size=train_view.size,
        crop_fraction=config.data.test_crop,
        batch_size=config.batch_size,
        k=config.knn.k,
        train_records=config.knn.train_records,
        test_records=config.knn.test_records,
    )
    metrics.write_json(workdir / "config.json", settings)
    rows = [
        ("devices", console.devices()),
        ("data set", console.dataset(dataset.identity(), dataset.directory, dataset.classes)),
        ("views", f"{setup.VIEWS} of {train_view.size[0]} x {train_view.size[1]} pixels a record"),
        *console.plan(plan, batch_size=config.batch_size, lr_per_256=config.optim.lr),
        ("parameters", console.parameter_counts(shapes.params)),
        ("workdir", str(workdir)),
    ]
    print(console.table(rows), flush=True)

    total = plan.total_steps
    writer = metrics.MetricsFile(workdir / "metrics.jsonl", continue_from=first_step)

    def log(step: int, values: loop.Values) -> None:
        if "embedding_std" in values:
            values |= {"embedding_std_uniform": config.framework.out**-0.5}
        writer.write(step, values)
        tqdm.write(console.progress_line(step, total, values, batch_size=config.batch_size))

    def seconds() -> float:
        return record["seconds"] + time.perf_counter() - started

    def save(step: int, state: TrainState) -> loop.Values:
        checkpoints.save(step, state, {"config": settings, "data": dataset.identity(), "seconds": seconds()})
        return {}

    def measure(step: int, state: TrainState) -> loop.Values:
        del step
        return {"knn_top1": evaluation.knn(state)}

    if first_step:
        state = checkpoints.restore(first_step, shapes, everywhere)
        print(f"Going on from step {first_step} of {total}.", flush=True)
    else:
        state = init(key)
        log(0, measure(0, state))
    batches = loader.train_batches(
        dataset.train, train_view, batch_size=config.batch_size, start_step=first_step, workers=config.data.workers
    )
    with StopRequest() as stop:
        state, step = loop.fit(
            jax.jit(method.train_step, donate_argnums=0, out_shardings=everywhere),
            state,
            (sharding.shard_batch(batch, mesh) for batch in batches),
            start_step=first_step,
            total_steps=total,
            batch_size=config.batch_size,
            log_steps=loop.every(config.log_every, total),
            log=log,
            hooks=(
                loop.Hook(measure, loop.evenly(config.knn.times, total)),
                loop.Hook(save, loop.every(config.checkpoint.every, total)),
            ),
            stop=stop,
        )
        save(step, state)
        checkpoints.close()
    if step < total:
        raise Stopped(f"Saved at step {step} of {total}. The same command goes on from there.", stop.signal)

    result = {
        "task": "pretrain",
        "steps": total,
        "seconds": seconds(),
        "images_per_second": metrics.median(workdir / "metrics.jsonl", "images_per_second"),
        "knn_k": config.knn.k,
        "knn_top1": evaluation.knn(state),
        "knn_top1_untrained": evaluation.knn(init(key)),
        "knn_top1_pixels": evaluation.knn_pixels(),
        "reconstruction_l1": None,
        "reconstruction_l1_mean_colour": None,
        "figure": None,
    }
    if method.branch is not None:
        rebuilt = evaluation.reconstruction(state)
        result |= {"reconstruction_l1": rebuilt.l1, "reconstruction_l1_mean_colour": rebuilt.l1_mean_colour}
        result["figure"] = str(workdir / "reconstructions.png")
        figures.reconstructions(workdir / "reconstructions.png", rebuilt.views, rebuilt.rebuilt)
    metrics.write_json(finished, result)
    print(f"Summary:\n{console.summary(result)}", flush=True)
    return result
