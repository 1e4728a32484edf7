"""The paper's tables: their rows, what each row's number is measured by, and what the paper has there."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

from repre_jax.core.errors import UserError
from repre_jax.frameworks import FRAMEWORKS
from repre_jax.reproduction import ablation, measured, paper
from repre_jax.reproduction.paper import SWIN_T, VIT_S
from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.scales import SUPERVISED, Scale
from repre_jax.reproduction.table import Measure, Picture, Row, Table

EPOCHS = 300  # of most of the paper's runs
ENCODERS = {"vit_s": "ViT-S", "vit_b": "ViT-B", "swin_t": "Swin-T"}
RANDOM, SCRATCH = "random weights", "scratch"
FUSION_TITLES = {"": "without decoder"} | {
    f"{operator}{layers}": f"{title}, {layers}"
    for operator, title in (("conv", "convolution"), ("transformer", "transformer"))
    for layers in (1, 2, 4)
}


def table(name: str, scale: Scale) -> Table:
    """Raises UserError for a name that none has."""
    if name not in TABLES:
        raise UserError(f"There is no table {name!r}.\n  expected: {', '.join(TABLES)}")
    return TABLES[name](scale)


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
    """Rows without and with RePre, in turns; where a scale knows no lengths, of those of 300 epochs alone."""
    rows: list[Row] = []
    for cell in cells:
        if not scale.by_epochs and cell.epochs != EPOCHS:
            continue
        for repre, variant, figure in (("no", "baseline", cell.without), ("yes", "", cell.repre)):
            labels = (_title(cell.framework), ENCODERS[cell.encoder], *_length(scale, cell.epochs), repre)
            trained = _trained(scale, cell.framework, cell.encoder, cell.epochs, variant)
            without = len(rows) - 1 if repre == "yes" else None
            rows.append(Row(labels, trained, (figure,), without, cell.framework))
    return tuple(rows)


def _table1(scale: Scale) -> Table:
    cells = [cell for cell in (*paper.TABLE1, *paper.MORE) if cell.encoder in scale.encoders]
    heads = (*_heads(scale, "framework", "encoder"), "RePre")
    return Table("table1", "Linear evaluation", scale, heads, measured.classification(scale), _pairs(scale, cells))


def _figure3(scale: Scale) -> Table:
    encoders = (*scale.encoders, SWIN_T)
    every = (*paper.TABLE1, *paper.MORE)
    cells = [cell for cell in every if cell.encoder in encoders and cell.epochs == EPOCHS]
    heads = (*_heads(scale, "framework", "encoder"), "RePre")
    title = "What RePre adds to linear evaluation, by framework and encoder"
    return Table("figure3", title, scale, heads, measured.classification(scale)[:1], _pairs(scale, cells), chart=True)


def _table2(scale: Scale) -> Table:
    detect = partial(measured.evaluated, "detect", scale.detect)
    measures = (Measure("box AP", "box_ap", detect), Measure("mask AP", "mask_ap", detect))
    longest = {cell.framework: cell.epochs for cell in sorted(paper.TABLE2, key=lambda cell: cell.epochs)}
    cells = [cell for cell in paper.TABLE2 if scale.by_epochs or cell.epochs == longest[cell.framework]]
    untrained = _trained(scale, "dino", SWIN_T, 100, "baseline", dense=True)
    rows = [Row((RANDOM, *("-" for _ in _length(scale, 0)), "-"), untrained, variant=SCRATCH)]
    for cell in cells:
        length = _length(scale, cell.epochs)
        if cell.repre is None:
            supervised = partial(scale.supervised_pretraining, SWIN_T, cell.epochs, True)
            rows.append(Row((SUPERVISED, *length, "-"), supervised, cell.without))
            continue
        for repre, variant, figures in (("no", "baseline", cell.without), ("yes", "", cell.repre)):
            trained = _trained(scale, cell.framework, SWIN_T, cell.epochs, variant, dense=True)
            without = len(rows) - 1 if repre == "yes" else None
            rows.append(Row((_title(cell.framework), *length, repre), trained, figures, without, cell.framework))
    heads = (*_heads(scale, "pre-training"), "RePre")
    notes = () if scale.by_epochs else ("The paper's figures are of 300 epochs, those of DINO of 100.",)
    title = "Detection and instance segmentation, Mask R-CNN"
    return Table("table2", title, scale, heads, measures, tuple(rows), notes=notes)


def _table3(scale: Scale) -> Table:
    segment = partial(measured.evaluated, "segment", scale.segment)
    measures = (Measure("mIoU", "miou", segment), Measure("mAcc", "macc", segment))
    without, repre = (_trained(scale, "dino", VIT_S, EPOCHS, variant, dense=True) for variant in ("baseline", ""))
    supervised = partial(scale.supervised_pretraining, VIT_S, EPOCHS, True)
    rows = (
        Row((RANDOM, "-"), without, variant=SCRATCH),
        Row((SUPERVISED, "-"), supervised, paper.TABLE3["supervised"]),
        Row((_title("dino"), "no"), without, paper.TABLE3["without"]),
        Row((_title("dino"), "yes"), repre, paper.TABLE3["with"], 2, "dino"),
    )
    return Table("table3", "Semantic segmentation, SETR", scale, ("pre-training", "RePre"), measures, rows)


def _table4(scale: Scale) -> Table:
    rows: list[Row] = []
    for (framework, encoder), figures in paper.TABLE4.items():
        first = len(rows)
        variants = (("-", "baseline"), ("single", "single"), ("multi", ""))
        for (features, variant), figure in zip(variants, figures, strict=True):
            trained = _trained(scale, framework, encoder, EPOCHS, variant)
            without = None if variant == "baseline" else first
            labels, counted = (_title(framework), ENCODERS[encoder], features), "" if variant else framework
            rows.append(Row(labels, trained, (figure,), without, counted))
    heads = ("framework", "encoder", "features")
    return Table(
        "table4", "The last feature, or several depths", scale, heads, measured.classification(scale), tuple(rows)
    )


def _table5(scale: Scale) -> Table:
    rows: list[Row] = []
    for encoder, figures in paper.TABLE5.items():
        first = len(rows)
        for fusion, figure in zip(paper.FUSIONS, figures, strict=True):
            variant = {"": "baseline", "conv2": ""}.get(fusion, fusion)  # two convolutions are the default
            trained = _trained(scale, "moco_v3", encoder, EPOCHS, variant)
            labels = (ENCODERS[encoder], FUSION_TITLES[fusion])
            counted = "" if variant else "moco_v3"
            rows.append(Row(labels, trained, (figure,), first if fusion else None, counted))
    heads = ("encoder", "fusion layers")
    return Table(
        "table5", "Fusion layers of the decoder, MoCo v3", scale, heads, measured.classification(scale), tuple(rows)
    )


def _dense(scale: Scale) -> Table:
    """Not the paper's: what lines read off the patch tokens of Table 1's encoders, and of one trained with labels."""
    labels = (SUPERVISED, ENCODERS[VIT_S], *_length(scale, EPOCHS), "-")
    supervised = Row(labels, partial(scale.supervised_pretraining, VIT_S, EPOCHS, False))
    cells = [cell for cell in (*paper.TABLE1, *paper.MORE) if cell.encoder == VIT_S and cell.epochs == EPOCHS]
    rows = (*_pairs(scale, cells), supervised)
    rows = tuple(dataclasses.replace(row, paper=()) for row in rows)
    heads = (*_heads(scale, "pre-training", "encoder"), "RePre")
    return Table("dense", "Dense measures of frozen encoders", scale, heads, measured.dense(scale), rows)


def _figure4(scale: Scale) -> Table:
    variants = (
        ("single", "last layer", paper.TABLE4["moco_v3", VIT_S][1]),
        ("", "several", paper.TABLE4["moco_v3", VIT_S][2]),
    )
    rows = tuple(
        Row((title,), _trained(scale, "moco_v3", VIT_S, EPOCHS, variant), (figure,), 0 if place else None, "moco_v3")
        for place, (variant, title, figure) in enumerate(variants)
    )
    pictures = (
        Picture("figure4-attention", "Attention, decoding the last layer and several depths", "attention", (0, 1)),
        Picture("figure4-tsne-last", "t-SNE, decoding the last layer", "tsne", (0,)),
        Picture("figure4-tsne-several", "t-SNE, decoding several depths", "tsne", (1,)),
    )
    title = "Attention maps and t-SNE, decoding the last layer or several depths, MoCo v3"
    other = "the row that decodes the last layer alone"
    measures = measured.classification(scale)
    return Table("figure4", title, scale, ("features",), measures, rows, other=other, pictures=pictures)


def _cost(scale: Scale) -> Table:
    """Of the pre-training step, by benchmarks/train_step.py, in turns with the same step without RePre, so that what
    else the machine does meets both; how much that was stands beside it."""
    rows = []
    for framework, encoder in (("moco_v3", VIT_S), ("moco_v3", SWIN_T), ("moby", SWIN_T), ("dino", VIT_S)):
        for preset in ("paper", "light"):
            labels = (_title(framework), ENCODERS[encoder], preset)
            step = partial(scale.step, framework, encoder, preset)
            rows.append(Row(labels, step))
    measures = (
        Measure("% of time added", "time_over_off", measured.own, offset=-100.0),
        Measure("% of FLOPs added", "flops_over_off", measured.own, offset=-100.0),
        Measure("load of others, processes", "load_average", measured.own, factor=1.0),
    )
    heads = ("framework", "encoder", "decoder")
    notes = (f"The paper says: an average of {paper.WORKLOAD:g} % of workload (section 4.1).",)
    title = "What RePre adds to a step of pre-training"
    return Table("cost", title, scale, heads, measures, tuple(rows), notes=notes)


TABLES: dict[str, Callable[[Scale], Table]] = {
    "table1": _table1,
    "figure3": _figure3,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "dense": _dense,
    "ablation": ablation.table,
    "figure4": _figure4,
    "cost": _cost,
}
