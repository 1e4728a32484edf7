"""The paper's tables: their rows, what each row's number is measured by, and what the paper has there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from repre_jax.core.errors import UserError
from repre_jax.frameworks import FRAMEWORKS
from repre_jax.reproduction import paper
from repre_jax.reproduction.paper import SWIN_T, VIT_S
from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.scales import Scale

ENCODERS = {"vit_s": "ViT-S", "vit_b": "ViT-B", "swin_t": "Swin-T"}
SUPERVISED = "supervised"
FUSION_TITLES = {"": "without decoder"} | {
    f"{operator}{layers}": f"{title}, {layers}"
    for operator, title in (("conv", "convolution"), ("transformer", "transformer"))
    for layers in (1, 2, 4)
}


@dataclass(frozen=True)
class Measure:
    """A column: what `evaluation` of a pre-training says under `key` of its result, times `factor`, plus `offset`.
    untrained: the key of the same of the encoder before its first step, '' where nothing measures it."""

    title: str
    key: str
    evaluation: Callable[[Run], Run]
    factor: float = 100.0
    offset: float = 0.0
    digits: int = 1
    untrained: str = ""


@dataclass(frozen=True)
class Row:
    """labels: of the first columns. pretraining: by seed. paper: by measure, for as many of the first as the paper has.
    without: the number of the row that this one is compared with, of the same table. framework: whose signs it counts
    among."""

    labels: tuple[str, ...]
    pretraining: Callable[[int], Run]
    paper: tuple[float | None, ...]
    without: int | None = None
    framework: str = ""


@dataclass(frozen=True)
class Picture:
    """What tools/figures.py draws of pre-trainings of seed 0. name, title: of the file and of the picture. rows: the
    numbers of those that these are of."""

    name: str
    title: str
    kind: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """heads: of the columns of labels. notes: sentences that stand above it. chart: also drawn, by its differences."""

    name: str
    title: str
    scale: Scale
    heads: tuple[str, ...]
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    chart: bool = False

    def runs(self, row: Row, seed: int) -> tuple[Run, ...]:
        """What measures this row's numbers of a seed, each once."""
        return tuple(dict.fromkeys(measure.evaluation(row.pretraining(seed)) for measure in self.measures))

    def in_order(self, seeds: Sequence[int], only: str = "") -> Iterator[Run]:
        """All runs that measure its numbers, whole pairs of a seed first. only: those with this in the name alone."""
        for seed in seeds:
            for row in self.rows:
                yield from (run for run in self.runs(row, seed) if only in run.name)


def table(name: str, scale: Scale) -> Table:
    """Raises UserError for a name that none has."""
    if name not in TABLES:
        raise UserError(f"There is no table {name!r}.\n  expected: {', '.join(TABLES)}")
    return TABLES[name](scale)


def _evaluated(config: str, variants: str, run: Run) -> Run:
    return Run(config, variants, run.seed, parent=run)


def _linear(scale: Scale, run: Run) -> Run:
    framework = run.config.partition("_")[0]
    return _evaluated("linear", scale.linear.get(framework, scale.linear[""]), run)


def _own(run: Run) -> Run:
    """What pre-training says of itself."""
    return run


def _classification(scale: Scale) -> tuple[Measure, ...]:
    return (
        Measure("top-1, linear", "top1", partial(_linear, scale), untrained="top1_untrained"),
        Measure("top-1, k-NN", "knn_top1", _own, untrained="knn_top1_untrained"),
    )


def _trained(
    scale: Scale, framework: str, encoder: str, epochs: int, variant: str, dense: bool = False
) -> Callable[[int], Run]:
    """Seed -> pre-training."""
    return lambda seed: scale.pretraining(framework, encoder, epochs, seed, variant, dense)


def _title(framework: str) -> str:
    return FRAMEWORKS[framework].title


def _length(scale: Scale, epochs: int) -> tuple[str, ...]:
    return (str(epochs),) if scale.by_epochs else ()


def _heads(scale: Scale, *heads: str) -> tuple[str, ...]:
    return (*heads, "epochs") if scale.by_epochs else heads


def _pairs(scale: Scale, cells: Sequence[paper.Linear]) -> tuple[Row, ...]:
    """Rows without and with RePre, in turns; of each framework and encoder once where a scale knows no lengths."""
    rows: list[Row] = []
    seen = set()
    for cell in cells:
        key = (cell.framework, cell.encoder, *_length(scale, cell.epochs))
        if key in seen:
            continue
        seen.add(key)
        for repre, variant, figure in (("no", "baseline", cell.without), ("yes", "", cell.repre)):
            labels = (_title(cell.framework), ENCODERS[cell.encoder], *_length(scale, cell.epochs), repre)
            trained = _trained(scale, cell.framework, cell.encoder, cell.epochs, variant)
            without = len(rows) - 1 if repre == "yes" else None
            rows.append(Row(labels, trained, (figure,), without, cell.framework))
    return tuple(rows)


def _table1(scale: Scale) -> Table:
    cells = [cell for cell in (*paper.TABLE1, *paper.MORE) if cell.encoder in scale.encoders]
    heads = (*_heads(scale, "framework", "encoder"), "RePre")
    return Table("table1", "Linear evaluation", scale, heads, _classification(scale), _pairs(scale, cells))


def _figure3(scale: Scale) -> Table:
    encoders = (*scale.encoders, SWIN_T)
    cells = [cell for cell in paper.TABLE1 if cell.encoder in encoders and cell.epochs == 300]
    heads = (*_heads(scale, "framework", "encoder"), "RePre")
    title = "What RePre adds to linear evaluation, by framework and encoder"
    return Table("figure3", title, scale, heads, _classification(scale)[:1], _pairs(scale, cells), chart=True)


def _table2(scale: Scale) -> Table:
    detect = partial(_evaluated, "detect", scale.detect)
    measures = (Measure("box AP", "box_ap", detect), Measure("mask AP", "mask_ap", detect))
    rows: list[Row] = []
    seen = set()
    for cell in paper.TABLE2:
        key = (cell.framework, *_length(scale, cell.epochs))
        if key in seen:
            continue
        seen.add(key)
        length = _length(scale, cell.epochs)
        if cell.repre is None:
            supervised = partial(scale.supervised_pretraining, SWIN_T, cell.epochs)
            rows.append(Row((SUPERVISED, *length, "-"), supervised, cell.without))
            continue
        for repre, variant, figures in (("no", "baseline", cell.without), ("yes", "", cell.repre)):
            trained = _trained(scale, cell.framework, SWIN_T, cell.epochs, variant, dense=True)
            without = len(rows) - 1 if repre == "yes" else None
            rows.append(Row((_title(cell.framework), *length, repre), trained, figures, without, cell.framework))
    heads = (*_heads(scale, "pre-training"), "RePre")
    return Table("table2", "Detection and instance segmentation, Mask R-CNN", scale, heads, measures, tuple(rows))


def _table3(scale: Scale) -> Table:
    segment = partial(_evaluated, "segment", scale.segment)
    measures = (Measure("mIoU", "miou", segment), Measure("mAcc", "macc", segment))
    rows = (
        Row((SUPERVISED, "-"), partial(scale.supervised_pretraining, VIT_S, 300), paper.TABLE3["supervised"]),
        Row((_title("dino"), "no"), _trained(scale, "dino", VIT_S, 300, "baseline", True), paper.TABLE3["without"]),
        Row(
            (_title("dino"), "yes"),
            _trained(scale, "dino", VIT_S, 300, "", True),
            paper.TABLE3["with"],
            1,
            "dino",
        ),
    )
    return Table("table3", "Semantic segmentation, SETR", scale, ("pre-training", "RePre"), measures, rows)


def _table4(scale: Scale) -> Table:
    rows: list[Row] = []
    for (framework, encoder), figures in paper.TABLE4.items():
        first = len(rows)
        variants = (("-", "baseline"), ("single", "single"), ("multi", ""))
        for (features, variant), figure in zip(variants, figures, strict=True):
            trained = _trained(scale, framework, encoder, 300, variant)
            without = None if variant == "baseline" else first
            rows.append(Row((_title(framework), ENCODERS[encoder], features), trained, (figure,), without, framework))
    heads = ("framework", "encoder", "features")
    return Table("table4", "The last feature, or several depths", scale, heads, _classification(scale), tuple(rows))


def _table5(scale: Scale) -> Table:
    rows: list[Row] = []
    for encoder, figures in paper.TABLE5.items():
        first = len(rows)
        for fusion, figure in zip(paper.FUSIONS, figures, strict=True):
            variant = {"": "baseline", "conv2": ""}.get(fusion, fusion)  # two convolutions are the default
            trained = _trained(scale, "moco_v3", encoder, 300, variant)
            labels = (ENCODERS[encoder], FUSION_TITLES[fusion])
            rows.append(Row(labels, trained, (figure,), first if fusion else None, "moco_v3"))
    heads = ("encoder", "fusion layers")
    return Table("table5", "Fusion layers of the decoder, MoCo v3", scale, heads, _classification(scale), tuple(rows))


def _figure4(scale: Scale) -> Table:
    variants = (
        ("single", "last layer", paper.TABLE4["moco_v3", VIT_S][1]),
        ("", "several", paper.TABLE4["moco_v3", VIT_S][2]),
    )
    rows = tuple(
        Row((title,), _trained(scale, "moco_v3", VIT_S, 300, variant), (figure,), 0 if place else None, "moco_v3")
        for place, (variant, title, figure) in enumerate(variants)
    )
    pictures = (
        Picture("figure4-attention", "Attention, decoding the last layer and several depths", "attention", (0, 1)),
        Picture("figure4-tsne-last", "t-SNE, decoding the last layer", "tsne", (0,)),
        Picture("figure4-tsne-several", "t-SNE, decoding several depths", "tsne", (1,)),
    )
    title = "Attention maps and t-SNE, decoding the last layer or several depths, MoCo v3"
    return Table("figure4", title, scale, ("features",), _classification(scale), rows, pictures=pictures)


def _cost(scale: Scale) -> Table:
    """Of the pre-training step, by benchmarks/train_step.py, in turns with the same step without RePre."""
    rows = []
    for framework, encoder in (("moco_v3", VIT_S), ("moco_v3", SWIN_T), ("moby", SWIN_T), ("dino", VIT_S)):
        for preset in ("paper", "light"):
            figure = paper.WORKLOAD if preset == "paper" else None
            labels = (_title(framework), ENCODERS[encoder], preset)
            step = partial(scale.step, framework, encoder, preset)
            rows.append(Row(labels, step, (figure, figure), framework=framework))
    measures = (
        Measure("% of time added", "time_over_off", _own, offset=-100.0),
        Measure("% of FLOPs added", "flops_over_off", _own, offset=-100.0),
    )
    heads = ("framework", "encoder", "decoder")
    return Table("cost", "What RePre adds to a step of pre-training", scale, heads, measures, tuple(rows))


TABLES: dict[str, Callable[[Scale], Table]] = {
    "table1": _table1,
    "figure3": _figure3,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "figure4": _figure4,
    "cost": _cost,
}
