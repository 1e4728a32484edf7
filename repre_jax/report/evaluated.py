"""What evaluations print at their end, from what result.json holds."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from repre_jax.report.console import Row, duration, table, test_images, without_learning

LISTED = 10  # classes, of the best and of the worst
PRECISIONS = {"box": "box AP", "mask": "mask AP"}
OF_TOKENS = {
    "object_ap": "object AP",
    "linear_miou": "linear mIoU",
    "detail_r2": "pixels explained",
    "detail_within_r2": "within patches",
}
DEPTHS = {"last": "last block", "all": "all levels side by side"}
RANKS = {"token_rank": "rank of tokens", "pooled_rank": "rank of pooled"}


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
    if result.get("top1_pixels") is not None:
        rows.append(("", f"{result['top1_pixels']:.1%}  raw pixels, a ridge classifier"))
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


def segmented(result: Mapping[str, Any]) -> str:
    """The end of a segmentation, trained or measured again, from its result.json."""
    origin, how = result["origin"], result["test"]
    step = None if origin.get("step") is None else f"step {origin['step']:,}"
    known = [origin.get("framework"), origin.get("branch"), step, f"head {result['head']}"]
    after = f"  after {result['steps']:,} steps" if "steps" in result else ""
    scales = f"; scales {', '.join(f'{scale:g}' for scale in how['test_scales'])}" * (len(how["test_scales"]) > 1)
    test = f"windows of {_by(result['image_size'])} every {_by(how['test_stride'])}{scales}"
    test += "; mirrored too" * how["test_flip"]
    size = f", resized within {_by(how['test_size'])}" if how["test_size"] else ""
    skipped = result.get("skipped_steps")
    return table(
        [
            ("encoder" if "steps" in result else "measured", origin["init_from"] or "none: from scratch"),
            ("", ", ".join(filter(None, known))),
            ("mIoU", f"{_share(result['miou'])}{after} in {duration(result['seconds'])}"),
            ("", f"{_share(result['miou_constant'])}  the same class everywhere, the best one"),
            ("mAcc, aAcc", f"{_share(result['macc'])} of each class, {_share(result['aacc'])} of all pixels"),
            *_of_classes(result["iou"]),
            ("test images", f"{result['test_images']:,}{size}, by {test}"),
            *([("", f"{skipped:,} steps skipped")] if skipped else []),
            *([("trained on", f"{result['trained_on']:,} images")] if "trained_on" in result else []),
            *deviations(result.get("departures", ())),
        ]
    )


def detected(result: Mapping[str, Any]) -> str:
    """The end of a detection, trained or measured again, from its result.json."""
    origin, how = result["origin"], result["test"]
    step = None if origin.get("step") is None else f"step {origin['step']:,}"
    known = [origin.get("framework"), origin.get("branch"), step]
    after = f" after {result['steps']:,} steps" if "steps" in result else ""
    size = f"shorter side {how['test_short']}, longer at most {how['test_longest']}"
    skipped, overflow, alike = result.get("skipped_steps"), result["overflow"], result.get("one_class", False)
    rows: list[Row] = [
        ("encoder" if "steps" in result else "measured", origin["init_from"] or "none: from scratch"),
        ("", ", ".join(filter(None, known))),
    ]
    for what, title in PRECISIONS.items():
        if numbers := result["ap"].get(what):
            rows.append((title, _precision(numbers)))
            rows += [] if alike else _of_classes(result["ap_of_classes"][what], f"{title} by class")
    rows += [
        ("test images", f"{result['test_images']:,}, {size}; {result['detections']:,} detections"),
        *([("", "scored as one class, object")] if alike else []),
        *([("", f"{overflow:,} with more candidates than {how['test_candidates']:,}")] if overflow else []),
        ("time", f"{duration(result['seconds'])}{after}"),
        *([("", f"{skipped:,} steps skipped")] if skipped else []),
        *([("trained on", f"{result['trained_on']:,} images")] if "trained_on" in result else []),
        *deviations(result.get("departures", ())),
    ]
    return table(rows)


def dense_probe(result: Mapping[str, Any]) -> str:
    """The end of tasks/dense_probe.py, from its result.json."""
    origin = result["origin"]
    step = None if origin["step"] is None else f"step {origin['step']:,}"
    rows: list[Row] = [
        ("encoder", origin["init_from"] or "none: from scratch"),
        ("", ", ".join(filter(None, [origin["framework"], origin["branch"], step]))),
    ]
    for kind, title in OF_TOKENS.items():
        for number, (depth, where) in enumerate(DEPTHS.items()):
            beside = "" if number else _same_everywhere(result, kind)
            rows.append(("" if number else title, f"{_beside(result, f'{kind}_{depth}', '.1%')}  {where}{beside}"))
    rows += [(title, _beside(result, name, ".1f")) for name, title in RANKS.items()]
    patches = f"{result['test_patches']:,} patches of {_by([result['patch']] * 2)} with a class"
    return table(
        [
            *rows,
            ("test images", f"{result['test_images']:,} of {_by(result['image_size'])} pixels; {patches}"),
            ("trained on", f"{result['train_images']:,} images, of which {result['held_out']:.0%} chose penalties"),
            ("time", duration(result["seconds"])),
        ]
    )


def _beside(result: Mapping[str, Any], name: str, form: str) -> str:
    """For example '52.1%, untrained 50.4%'."""
    values = {"": result[name], "untrained ": result.get(f"{name}_untrained")}
    there = [f"{whose}{value:{form}}" for whose, value in values.items() if value is not None]
    return ", ".join(there) or "none: the images do not have what is asked"


def _same_everywhere(result: Mapping[str, Any], kind: str) -> str:
    value = result.get(f"{kind}_constant")
    return "" if value is None else f"; the same answer everywhere {value:.1%}"


def _precision(numbers: Mapping[str, float | None]) -> str:
    """For example '43.6%, AP50 65.9%, AP75 47.6%, small 27.1%, medium 46.9%, large 57.5%', without those that are
    None."""
    names = {"AP": "", **{name: name.removeprefix("AP_") + " " for name in numbers if name != "AP"}}
    shown = [f"{names[name]}{value:.1%}" for name, value in numbers.items() if value is not None]
    return ", ".join(shown) or "none: there are no objects"


def _of_classes(iou: Mapping[str, float | None], what: str = "IoU") -> list[Row]:
    """Rows of the IoU, or what else, of each class; of many the best and the worst."""
    there = sorted(((value, name) for name, value in iou.items() if value is not None), reverse=True)
    names = {name for _, name in (*there[:LISTED], *there[-LISTED:])}
    parts = [f"{name} {_share(value)}" for name, value in iou.items() if name in names]
    absent = len(iou) - len(there)
    first = what if len(names) == len(there) else f"{what}, best and worst {LISTED}"
    lines = textwrap.wrap(", ".join(parts) + f"; {absent} classes are nowhere" * (absent > 0), 100)
    return [(first if number == 0 else "", line) for number, line in enumerate(lines)]


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _by(sides: Sequence[int]) -> str:
    """For example '768 x 768'."""
    return " x ".join(map(str, sides))


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
        if run := result.get("run"):
            rows += [(f"k = {run['knn_k']}", "as pre-training measured it:"), *without_learning(run)]
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
