"""What evaluations print at their end, from what result.json holds."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from repre_jax.report.console import Row, duration, table, test_images, without_learning


def linear(result: Mapping[str, Any]) -> str:
    """The end of a linear probe, from its result.json."""
    how = ", cached features: not the published protocol" if result["cached"] else ""
    steps = f"{result['steps']:,} steps on {result['trained_on']:,} images in {duration(result['seconds'])}"
    protocol = ("protocol", f"{result['protocol']}{how}")
    rows = [*_encoder(result), protocol, *deviations(result["departures"]), ("", steps)]
    for whose in dict.fromkeys(head["encoder"] for head in result["heads"]):
        heads = [
            f"x {head['factor']:g}: {'diverged' if head['top1'] is None else format(head['top1'], '.1%')}"
            for head in result["heads"]
            if head["encoder"] == whose
        ]
        rows.append((f"all heads, {whose}", "   ".join(heads)))
    chosen = "as held-out images chose" if result["held_out"] else "the protocol's"
    rows += [
        ("linear top-1", f"{result['top1']:.1%}  trained encoder, learning rate x {result['factor']:g}, {chosen}"),
    ]
    if result["top1_protocol"] is not None:
        rows.append(("", f"{result['top1_protocol']:.1%}  with the protocol's learning rate"))
    if result["top1_untrained"] is not None:
        rows.append(("", f"{result['top1_untrained']:.1%}  untrained encoder, likewise"))
    if run := result["run"]:
        rows += [
            ("k-NN top-1", f"{run['knn_top1']:.1%}  trained encoder, k = {run['knn_k']}, as pre-training measured it"),
            *without_learning(run),
        ]
    return table(rows)


def finetuned(result: Mapping[str, Any]) -> str:
    """The end of fine-tuning, from its result.json."""
    return table(
        [
            *_encoder(result),
            ("top-1", f"{result['top1']:.1%}  after {result['steps']:,} steps in {duration(result['seconds'])}"),
            *([("", f"{result['skipped_steps']:,} steps skipped")] if result["skipped_steps"] else []),
            ("recipe", f"{result['recipe']}; {result['trained_on']:,} training images"),
            *deviations(result["departures"]),
        ]
    )


def deviations(changes: Sequence[str]) -> list[Row]:
    """Rows of what was changed of a published protocol."""
    return [("", line) for line in textwrap.wrap(f"but with {'; '.join(changes)}", 100)] if changes else []


def knn(result: Mapping[str, Any]) -> str:
    """The end of tasks/knn.py, from its result.json."""
    rows = _encoder(result)
    if result["knn_top1"] is None:
        records = f"of {result['train_records']:,} training images (RankMe; {result['effective_rank_because']})"
        rows.append(("effective rank", f"{result['effective_rank']:.1f}  {records}"))
    else:
        names = ["k-NN top-1", *[""] * (len(result["knn_top1"]) - 1)]
        few = result["train_records"]
        cut = {k: f", where all {few} vote" if int(k) > few else "" for k in result["knn_top1"]}
        accuracies = [f"{value:.1%}  k = {k}{cut[k]}" for k, value in result["knn_top1"].items()]
        votes = f"{result['train_records']:,} training records vote, temperature {result['temperature']:g}"
        rows += [*zip(names, accuracies, strict=True), ("", f"of {result['test_records']:,} test records; {votes}")]
    return table([*rows, ("time", duration(result["seconds"]))])


def _encoder(result: Mapping[str, Any]) -> list[Row]:
    """Where the weights come from, and which images were seen how."""
    origin = result["origin"]
    step = None if origin["step"] is None else f"step {origin['step']:,}"
    known = [origin["framework"], origin["branch"], step]
    return [
        ("encoder", origin["init_from"] or "none: from scratch"),
        ("", ", ".join(filter(None, [*known, f"feature {result['feature']}"]))),
        ("test images", test_images(result)),
    ]
