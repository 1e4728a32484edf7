"""What a run prints: the table at the start, a line a logging step, the summary at the end."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from repre_jax.core.schedules import Plan, Schedule
from repre_jax.report import metric_names

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}  # an x86 processor's flags, the widest first
SMALLEST = 4  # records that allow batches of two different ones
Row = tuple[str, str]  # a name, which may be empty, and a value


def table(rows: Sequence[Row]) -> str:
    """Aligned 'name  value' lines."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def devices() -> str:
    """For example '8 x cpu', '1 x gpu (NVIDIA H100 80GB HBM3)' or '16 x cpu in 2 processes'."""
    first = jax.devices()[0]
    kind = "" if first.device_kind == first.platform else f" ({first.device_kind})"
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} x {first.platform}{kind}{processes}"


def shares(plan: Plan, count: int, in_microbatches: str) -> list[Row]:
    """What each of `count` devices gets of a batch; of one in microbatches what that means, as the framework says
    in Framework.in_microbatches."""
    text = f"{devices()}, {plan.batch_size // count:,} images a step" + (" each" if count > 1 else "")
    if plan.microbatch_size == plan.batch_size:
        return [("devices", text)]
    return [
        ("devices", f"{text}, {plan.microbatch_size // count:,} at once"),
        (
            "accumulation",
            f"{plan.batch_size // plan.microbatch_size} microbatches of {plan.microbatch_size:,} images: "
            f"{in_microbatches}",
        ),
    ]


def machine() -> str:
    """For example '2 cores, AMD EPYC, family 25, model 1, AVX2'; what Linux says, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = [said.get("model name") or platform.processor() or platform.machine()]
    if "cpu family" in said:  # x86, on which the widest vectors decide how fast a product is
        parts += [f"family {said['cpu family']}", f"model {said['model']}"]
        parts += [name for flag, name in VECTORS.items() if flag in said.get("flags", "").split()][:1]
    return f"{os.cpu_count()} cores, {', '.join(parts)}"


def plan(plan: Plan, *, lr_per_256: float, optimizer: str, shape: str, momentum: bool) -> list[Row]:
    """The resolved numbers of a run; the target's momentum where there is one."""

    def course(schedule: Schedule) -> str:
        first, last = float(schedule(0)), float(schedule(plan.total_steps))
        return f"{first:.4g}" if first == last else f"{first:.4g} -> {last:.4g}"

    epochs = plan.total_steps / plan.steps_per_epoch
    images = f"{plan.total_steps:,} of {plan.batch_size} images"
    ends = f"{float(plan.lr(0)):.4g} -> {plan.peak_lr:.4g} -> {float(plan.lr(plan.total_steps)):.4g}"
    rows = [
        ("steps", f"{images} = {epochs:.4g} epochs of {plan.steps_per_epoch:.1f} steps; warm-up {plan.warmup_steps:,}"),
        ("optimizer", f"{optimizer}, weight decay {course(plan.weight_decay)}"),
        ("learning rate", f"{ends} ({lr_per_256:.4g} per 256 images), schedule {shape}"),
    ]
    return [*rows, ("momentum", course(plan.momentum))] if momentum else rows


def copies(plan: Plan) -> str | None:
    """A warning where a batch holds records more than once: epochs flow into each other without a short batch."""
    records, batch_size = plan.records, plan.batch_size
    if records >= 2 * batch_size or records % batch_size == 0:
        return None  # at most one batch of an epoch, that in which it ends
    images = "1 training record" if records == 1 else f"{records:,} training records"
    times = batch_size // records
    if times > 1:
        often = f"A batch holds each of them {times} times{' or more' if batch_size % records else ''}"
    else:
        often = f"{'A batch' if times else 'A batch in which an epoch ends'} holds some of them twice"
    smaller = f"--config.batch_size to at most {records // 2:,}, or " if records >= SMALLEST else ""
    return (
        f"Warning: batch_size is {batch_size:,}, and there {'is' if records == 1 else 'are'} {images}. {often}, and "
        "the loss takes copies of a record for different ones, a contrastive one for each other's negatives.\n"
        f"  change:   {smaller}more images"
    )


def parameter_counts(params: Mapping[str, Any]) -> str:
    """For example 'encoder 1.19 M, projector 0.34 M'."""
    parts = []
    for part, tree in params.items():
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
        parts.append(f"{part} {count / 1e6:.2f} M" if count >= 10_000 else f"{part} {count:,}")
    return ", ".join(parts)


def dataset(identity: Mapping[str, Any], directory: str, classes: int | None) -> str:
    """For example 'digits 1.0.0: 1,437 train, 360 test, 10 classes, in ~/tensorflow_datasets/digits/1.0.0'."""
    test, labels = identity["test_records"], classes
    missing = " and ".join(what for what, there in (("no test split", test), ("no labels", labels)) if not there)
    parts = [
        f"{identity['train_records']:,} train",
        *([f"{test:,} test"] if test else []),
        *([f"{labels} classes"] if labels else []),
        *([f"{missing}, so no k-NN"] if missing else []),
    ]
    sizes = ", ".join(parts)
    return f"{identity['name']} {identity['version']}: {sizes}, in {directory}"


def origin(found: Mapping[str, Any]) -> str:
    """Where an encoder comes from, for example 'init_from runs/demo, framework moco_v3, network online, step 8'.

    found: `origin` of a result. Its key `branch`, the network's name until 0.1.0, stays as it is stored there.
    """
    named = {"network" if name == "branch" else name: value for name, value in found.items()}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)


def test_images(data: Mapping[str, Any]) -> str:
    """For example '16 x 16 pixels, the central 0.875 of each, bicubic; mean 0.5 0.5 0.5, std 0.5 0.5 0.5', from a
    config's `data` or a result."""
    size = " x ".join(map(str, data["image_size"] * (3 - len(data["image_size"]))))
    mean, std = (" ".join(f"{value:.4g}" for value in data[key]) for key in ("mean", "std"))
    kept = f"the central {data['test_crop']:g} of each" if data["test_crop"] < 1 else "all that fits of each"
    return f"{size} pixels, {kept}, {data['test_interpolation']}; mean {mean}, std {std}"


def progress_line(step: int, total_steps: int, values: Mapping[str, float | None], *, batch_size: int) -> str:
    """One line of the log; leaves out what was not measured."""
    parts = [f"step {step:>{len(str(total_steps))}}/{total_steps}"]
    parts += metric_names.printed(values)
    if speed := values.get("images_per_second"):
        parts.append(f"{duration((total_steps - step) * batch_size / speed)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """For example '1.4 MB'; 1 MB is a million bytes."""
    power = min(int(math.log10(max(count, 1)) / 3), 4)
    return f"{count / 1000**power:.4g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def without_learning(result: Mapping[str, Any], verdict: str = "") -> list[Row]:
    """k-NN of what was not trained, from what a run measured: those rows that there are. verdict: on raw pixels."""
    rows = {
        "untrained encoder": result["knn_top1_untrained"],
        f"raw pixels{verdict}": result.get("knn_top1_pixels"),
        "HOG, edges alone": result.get("knn_top1_hog"),
    }
    return [("", f"{top1:.1%}  {what}") for what, top1 in rows.items() if top1 is not None]


def summary(result: Mapping[str, Any], workdir: Path) -> str:
    """The end of a pre-training run, from its result.json."""
    speed = f"; {result['images_per_second']:.0f} images/s" if result["images_per_second"] else ""
    skipped = result.get("skipped_steps")
    rows = [
        ("steps", f"{result['steps']:,} in {duration(result['seconds'])}, with compilation and k-NN{speed}"),
        *([("", f"{skipped:,} of them skipped: loss or gradient not finite")] if skipped else []),
    ]
    if result["knn_top1"] is not None:
        points = 100 * (result["knn_top1"] - result["knn_top1_pixels"])
        verdict = f"the encoder is {abs(points):.1f} points {'better' if points >= 0 else 'worse'}"
        rows += [
            (f"k-NN top-1 (k = {result['knn_k']})", f"{result['knn_top1']:.1%}  trained encoder"),
            *without_learning(result, f": {verdict}"),
            *([("", f"of {how} test images")] if (how := result.get("test_interpolation")) else []),
        ]
    if result.get("effective_rank") is not None:
        why = f": {result['no_knn']}" if result.get("no_knn") else ""  # older runs do not say
        rows += [
            ("effective rank", f"{result['effective_rank']:.1f}  trained encoder (RankMe, in place of k-NN{why})"),
            ("", f"{result['effective_rank_untrained']:.1f}  untrained encoder"),
        ]
    if result["reconstruction_l1"] is not None:
        fraction = result["reconstruction_l1"] / result["reconstruction_l1_mean_colour"]
        images = result.get("reconstruction_of", "all test images")
        rows += [
            (
                "reconstruction L1",
                f"{result['reconstruction_l1']:.4f} over {images}, {fraction:.0%} of the next line",
            ),
            ("", f"{result['reconstruction_l1_mean_colour']:.4f} painting each image in its mean colour"),
            ("figure", str(workdir / result["figure"])),
        ]
    return table(rows)
