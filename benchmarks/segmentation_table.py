"""What benchmarks/segmentation_gain.py and benchmarks/detection_gain.py print: scores by seed, differences paired by
seed and their standard errors."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.report.results import title
from repre_jax.report.run import Run, read
from repre_jax.system import environment

# What must be the same wherever two results are compared; and within a row, of whose seeds, the encoder's weights too.
SAME = (
    *("data_set", "train_split", "test_split", "test_images", "test", "mean", "std", "image_size"),
    *("dtype", "batch_size", "steps", "trained_on", "masks"),
)
SAME_IN_A_ROW = ("origin", "head")
ENOUGH = 2  # standard errors


@dataclass(frozen=True)
class Score:
    """A number in result.json, 0..1. key, name: there and in the table. constant: the key of what the same answer
    everywhere has, if it means something."""

    key: str
    name: str
    constant: str | None = None


MIOU = Score("miou", "mIoU", "miou_constant")


@dataclass(frozen=True)
class Trained:
    """A finished run. seconds: of a processor, of all its starts; None where that is not known."""

    run: Run
    seconds: float | None

    def value(self, score: Score) -> float:
        return float(self.run.result[score.key])


Table = Mapping[str, Sequence[Trained]]  # by the rows' names, in the order of the seeds


def lines(
    table: Table,
    pairs: Sequence[tuple[str, str]],
    runs: Sequence[Path],
    scores: Sequence[Score] = (MIOU,),
    what: str = "segmentation",
) -> list[str]:
    """All that is printed of finished trainings. pairs: names of rows, of which the second is subtracted from the
    first. runs: the pre-trainings. what: was trained on them.

    Raises UserError where results cannot be compared.
    """
    check_same(table)
    return [*_heading(table, runs, what), *(line for score in scores for line in _of_score(table, pairs, score))]


def _of_score(table: Table, pairs: Sequence[tuple[str, str]], score: Score) -> list[str]:
    first = next(iter(table.values()))
    head = [*(f"seed {seed}" for seed in range(len(first))), "mean"]
    constant = []
    if score.constant is not None:
        value = first[0].run.result[score.constant]
        constant = [f"| the same class everywhere | {' | '.join([f'{value:.1%}'] * len(head))} | - | - |"]
    return [
        "",
        f"| {score.name} | {' | '.join(head)} | steps | processor seconds, by seed |",
        f"|---|{'---|' * (len(head) + 2)}",
        *(_row(name, found, score) for name, found in table.items()),
        *constant,
        "",
        f"| difference of {score.name} in points | {' | '.join(head)} | standard error | at least {ENOUGH} of it |",
        f"|---|{'---|' * (len(head) + 2)}",
        *(_difference(*pair, table, score) for pair in pairs),
    ]


def _heading(table: Table, runs: Sequence[Path], what: str) -> list[str]:
    """When and by what the runs were trained, as they have recorded it; and which encoders they are of."""
    starts = [start for found in table.values() for each in found for start in each.run.starts]

    def all_of(values: Sequence[str]) -> str:
        return ", ".join(sorted(set(values)))

    devices, python = (all_of([start[key] for start in starts]) for key in ("devices", "python"))
    days = sorted({start["time"][:10] for start in starts})
    versions = all_of([start["versions"]["jax"] for start in starts])
    commits = all_of([str(start["commit"]) for start in starts])
    of_encoders = [f"{run.name}: {title(read(run))}, {read(run).step:,} steps" for run in runs]
    return [
        environment.command(),
        "",
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, {devices} ({console.machine()}), Python {python}, "
        f"jax {versions}, commit {commits}",
        *of_encoders,
        f"One pre-training each: its seed does not vary, those of the {what} do.",
    ]


def _row(name: str, found: Sequence[Trained], score: Score) -> str:
    scores = [each.value(score) for each in found]
    seconds = ["not known" if each.seconds is None else f"{each.seconds:,.0f}" for each in found]
    values = [f"{value:.1%}" for value in (*scores, statistics.mean(scores))]
    return f"| {name} | {' | '.join(values)} | {found[0].run.result['steps']:,} | {', '.join(seconds)} |"


def _difference(more: str, less: str, table: Table, score: Score) -> str:
    found = zip(table[more], table[less], strict=True)
    each = [100 * (ours.value(score) - theirs.value(score)) for ours, theirs in found]
    mean, error = paired(each)
    values = " | ".join(f"{value:+z.2f}" for value in (*each, mean))
    known = "not known of one seed | -" if error is None else f"{error:.2f} | {'yes' if enough(mean, error) else 'no'}"
    return f"| {more} minus {less} | {values} | {known} |"


def paired(differences: Sequence[float]) -> tuple[float, float | None]:
    """(their mean, its standard error: None of a single one)."""
    mean, count = statistics.mean(differences), len(differences)
    return mean, statistics.stdev(differences) / math.sqrt(count) if count > 1 else None


def enough(mean: float, error: float) -> bool:
    """Whether a mean difference is above 0 by so many of its standard errors."""
    return mean > 0 and mean >= ENOUGH * error


def check_same(table: Table) -> None:
    """Raises UserError where results cannot be compared, as of a workdir that older runs have been in."""
    everything = [each for found in table.values() for each in found]
    groups = [(everything, SAME), *((found, SAME_IN_A_ROW) for found in table.values())]
    for group, keys in groups:
        first = group[0].run
        for other in (each.run for each in group):
            for key in keys:
                if other.result.get(key) != first.result.get(key):
                    raise UserError(
                        f"{first.folder} and {other.folder} cannot be compared: they differ in {key}.\n"
                        "  change:   --workdir, to a new folder"
                    )
