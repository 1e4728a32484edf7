"""Every metric that a run logs: what it is called, where it is drawn and printed, and which value is best.

The one table that the console, the page, the comparison of runs and the recorder read; a metric of a new task is one
entry more, and a framework's own stand in its SPEC. The page follows the table's order, the line on the console
`place`. A name that is not in the table, as of somebody's own framework, is still drawn, in a panel titled by the name;
it is not printed.
The trackers (TensorBoard, W&B) get the names themselves, as they stand in metrics.jsonl.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from repre_jax.frameworks import FRAMEWORKS


@dataclass(frozen=True)
class Metric:
    """How one metric is shown.

    title:   of a panel that shows it alone.
    panel:   title of the panel among the main ones that it is drawn in, perhaps with others; None: it is drawn alone,
             among the further measurements. Metrics of one panel agree in percent and log.
    label:   of its curve in that panel.
    percent: a fraction, 0..1, written in percent.
    log:     a logarithmic axis.
    form:    how its value is written in a sentence, as format() takes it; '' where it never is.
    console: what the line of a logging step says of it, {} being the value; '' for nothing.
    place:   in that line, smallest first.
    result:  what its newest value is called among the numbers that sum up a run; '' where it is none of them.
    best:    which value is best; None where neither is, as of a learning rate.
    judges:  it tells how good a state is: the first of the table that was measured is what checkpoint.best goes by.
    """

    title: str
    panel: str | None = None
    label: str = ""
    percent: bool = False
    log: bool = False
    form: str = ""
    console: str = ""
    place: int = 0
    result: str = ""
    best: Literal["larger", "smaller"] | None = None
    judges: bool = False

    def written(self, value: float) -> str:
        """For example '95.1%'."""
        return format(value, self.form)


WEIGHTS, TOP1 = "Weights of the two losses", "Top-1"  # panels of several metrics
SEGMENTED = "Segmentation"
DETECTED, DETECTOR = "Average precision", "Losses of the detector"
SPREAD = "Standard deviation of the embeddings"


def _of_pixels(title: str, console: str, place: int, result: str = "", judges: bool = False) -> Metric:
    """Of a segmentation, all in one panel."""
    return Metric(
        title,
        SEGMENTED,
        title,
        percent=True,
        form=".1%",
        console=console,
        place=place,
        result=result,
        best="larger",
        judges=judges,
    )


def _of_detections(title: str, console: str, place: int, result: str = "", judges: bool = False) -> Metric:
    """COCO's average precision, all in one panel."""
    return Metric(
        title,
        DETECTED,
        title,
        percent=True,
        form=".1%",
        console=console,
        place=place,
        result=result,
        best="larger",
        judges=judges,
    )


def _of_detector(title: str, label: str, console: str, place: int) -> Metric:
    """One of the losses whose sum is 'loss', all in one panel."""
    return Metric(title, DETECTOR, label, form=".4f", console=console, place=place, best="smaller")


METRICS: dict[str, Metric] = {
    "loss": Metric("Loss", "Loss", "total", form=".4f", console="loss {}", place=10, best="smaller"),
    "pixel_loss": Metric(
        "Loss of the head without auxiliary ones",
        "Loss",
        "head",
        form=".4f",
        console="head {}",
        place=15,
        best="smaller",
    ),
    "contrastive": Metric(
        "Contrastive loss",
        "Contrastive loss",
        "contrastive",
        form=".4f",
        console="contrastive {}",
        place=20,
        best="smaller",
    ),
    "reconstruction": Metric(
        "Reconstruction loss, L1",
        "Reconstruction loss, L1",
        "reconstruction",
        log=True,
        form=".4f",
        console="reconstruction {}",
        place=30,
        result="Reconstruction L1",
        best="smaller",
    ),
    "weight_contrastive": Metric(
        "Weight of the contrastive loss",
        WEIGHTS,
        "of contrastive",
        log=True,
        form=".2f",
        console="weights {}",
        place=40,
    ),
    "weight_reconstruction": Metric(
        "Weight of the reconstruction loss", WEIGHTS, "of reconstruction", log=True, form=".2f", console="{}", place=50
    ),
    "knn_top1": Metric(
        "k-NN top-1",
        "k-NN top-1",
        "trained encoder",
        percent=True,
        form=".1%",
        console="k-NN {}",
        place=160,
        result="k-NN top-1",
        best="larger",
        judges=True,
    ),
    "effective_rank": Metric(
        "Effective rank of the features",
        "Effective rank of the features",
        "trained encoder",
        form=".1f",
        console="effective rank {}",
        place=200,
        result="Effective rank",
        best="larger",
        judges=True,
    ),
    "top1": Metric(
        "Top-1",
        TOP1,
        "test",
        percent=True,
        form=".1%",
        console="top-1 {}",
        place=190,
        result="Top-1",
        best="larger",
        judges=True,
    ),
    "train_top1": Metric(
        "Top-1 of the training batch",
        TOP1,
        "training batch",
        percent=True,
        form=".1%",
        console="train top-1 {}",
        place=170,
        best="larger",
    ),
    "held_out_top1": Metric(
        "Top-1, held-out training images",
        TOP1,
        "held-out training",
        percent=True,
        form=".1%",
        console="held-out top-1 {}",
        place=180,
        best="larger",
    ),
    "miou": _of_pixels("Mean IoU", "mIoU {}", 192, result="Mean IoU", judges=True),
    "macc": _of_pixels("Mean accuracy of the classes", "mAcc {}", 194),
    "aacc": _of_pixels("Accuracy of all pixels", "aAcc {}", 196),
    "train_pixel_accuracy": _of_pixels("Accuracy of the training batch's pixels", "train pixels {}", 172),
    "box_ap": _of_detections("Box AP", "box AP {}", 184, result="Box AP", judges=True),
    "mask_ap": _of_detections("Mask AP", "mask AP {}", 186, result="Mask AP", judges=True),
    "box_ap50": _of_detections("Box AP50", "AP50 {}", 185),
    "mask_ap50": _of_detections("Mask AP50", "AP50 {}", 187),
    "objectness_loss": _of_detector("Loss of the anchors' objectness", "objectness", "objectness {}", 11),
    "anchor_box_loss": _of_detector("Loss of the anchors' boxes", "anchors' boxes", "anchors {}", 12),
    "class_loss": _of_detector("Loss of the regions' classes", "classes", "classes {}", 13),
    "box_loss": _of_detector("Loss of the regions' boxes", "boxes", "boxes {}", 14),
    "mask_loss": _of_detector("Loss of the masks", "masks", "masks {}", 16),
    "region_accuracy": Metric(
        "Accuracy of the training batch's regions",
        percent=True,
        form=".1%",
        best="larger",
        console="regions {}",
        place=174,
    ),
    "positive_regions": Metric("Regions of an object, of those sampled of an image", form=".1f"),
    "lr": Metric("Learning rate", "Learning rate", "learning rate", form=".2e", console="lr {}", place=60),
    "gradient_norm": Metric(
        "Gradient norm", "Gradient norm", "gradient norm", log=True, form=".3g", console="grad norm {}", place=110
    ),
    "embedding_std": Metric(SPREAD, SPREAD, "embeddings", form=".4f", console="emb std {}", place=120),
    "embedding_std_uniform": Metric(
        "Even spread of the embeddings, 1/\u221ad",
        SPREAD,
        "even spread, 1/\u221ad",
        form=".4f",
        console="(1/sqrt(d) {})",
        place=130,
    ),
    "images_per_second": Metric(
        "Images per second",
        "Images per second",
        "images/s",
        form=".0f",
        console="{} images/s",
        place=140,
        result="Images per second",
        best="larger",
    ),
    "wait_share": Metric(
        "Share of the time waiting for data",
        "Share of the time waiting for data",
        "waiting",
        percent=True,
        form=".0%",
        console="waiting {}",
        place=150,
        best="smaller",
    ),
    "momentum": Metric("Momentum of the target", form=".4f", console="momentum {}", place=80),
    "weight_decay": Metric("Weight decay", form=".3f", console="decay {}", place=70),
    "teacher_temperature": Metric("Temperature of the teacher", form=".3f", console="teacher temperature {}", place=90),
    "teacher_entropy": Metric("Entropy of the teacher", form=".3f", console="entropy {}", place=100),
    "skipped": Metric("Skipped steps", best="smaller"),
    "skipped_in_a_row": Metric("Skipped steps in a row", best="smaller"),
    "first_bad_step": Metric("First step of the last skipped row"),
    "unreadable": Metric("Unreadable records", best="smaller"),
}
METRICS |= {name: Metric(title) for spec in FRAMEWORKS.values() for name, title in spec.metrics.items()}


def of(name: str) -> Metric:
    """The table's entry; of another name one with that for its title."""
    return METRICS.get(name, Metric(name))


def panels() -> dict[str, list[str]]:
    """Title of each main panel -> the metrics drawn in it, all in the table's order."""
    names: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        if metric.panel is not None:
            names.setdefault(metric.panel, []).append(name)
    return names


def printed(values: Mapping[str, float | None]) -> list[str]:
    """What the console says of one logging step, a part for each metric that it says and that was measured."""
    said = []
    for name, metric in METRICS.items():
        value = values.get(name)
        if metric.console and value is not None:
            said.append((metric.place, metric.console.format(metric.written(value))))
    return [text for _, text in sorted(said)]


def judges() -> list[str]:
    """The metrics that tell how good a state is, the one that counts first."""
    return [name for name, metric in METRICS.items() if metric.judges]


def quality(values: Mapping[str, float | None]) -> float | None:
    """Of how good the state is that `values` were measured of, larger is better; None where no judge was measured."""
    for name in judges():
        value = values.get(name)
        if value is not None:
            return -value if METRICS[name].best == "smaller" else value
    return None
