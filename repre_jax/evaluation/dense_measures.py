"""What can be read off an encoder's patch tokens by lines: objects, classes, the patch's own pixels; and their rank.

Each line is least squares with a penalty (evaluation/ridge.py) that held-out training images choose; it is then fitted
to all training images and measured on test images.

object_ap         average precision of telling objects from background, of patches
linear_miou       mean IoU of the patches' classes: of each class a line to 1 or -1, the largest of which is the
                  answer; a patch weighs 1 / sqrt(share of its class)
detail_r2         share of the variance of the patches' pixels that is explained, all pixels and channels together
detail_within_r2  the same of what is left of the pixels without the mean colour of their patch
token_rank        effective rank (evaluation/rank.py) of the last block's tokens; pooled_rank: of the pooled features
"""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from repre_jax.data import loader
from repre_jax.evaluation import confusion, rank
from repre_jax.evaluation.patches import Patches
from repre_jax.evaluation.ridge import Sums

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # that are tried, of standardised features and the mean over patches
RANK_TOKENS = 10_240  # at most, evenly spaced over the test images' patches

Judge = Callable[[np.ndarray, np.ndarray], float]  # (answers, y), [rows, K] both -> how good; larger is better


@dataclass(frozen=True)
class Split:
    """fit, held_out: of the training images, those that lines are fitted to and those that choose penalties; then lines
    are fitted to both. background: the classes that are no objects."""

    fit: Patches
    held_out: Patches
    test: Patches
    background: Collection[int]

    def parts(self) -> tuple[Patches, Patches, Patches]:
        return self.fit, self.held_out, self.test


@dataclass(frozen=True)
class Rows:
    """A patch each: x [rows, F], its token; y [rows, K], what is asked of it; weights [rows], None for 1 each."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None = None


def measure(split: Split, encoder: int, widths: Mapping[str, int]) -> tuple[dict[str, float | None], dict[str, float]]:
    """(The measures of one of the encoders, by 'object_ap_last' and the like, None where the images do not have what is
    asked; the penalties that were chosen, alike). widths: of a token at each depth, which is the end of a whole one."""
    measures: dict[str, float | None] = {}
    penalties: dict[str, float] = {}
    within = functools.partial(explained_within, channels=split.test.pixels.shape[-1])
    questions: tuple[tuple[list[Rows], dict[str, Judge]], ...] = (
        (_of_objects(split, encoder), {"object_ap": precision}),
        (_of_classes(split, encoder), {"linear_miou": miou}),
        (_of_pixels(split, encoder), {"detail_r2": explained, "detail_within_r2": within}),
    )
    for rows, judges in questions:
        can_tell = all(len(each.y) and np.ptp(each.y, axis=0).any() for each in rows)
        sums = [Sums.of(each.x, each.y, each.weights) for each in rows[:2]] if can_tell else []
        for depth, width in widths.items():
            names = {f"{name}_{depth}": judge for name, judge in judges.items()}
            if not can_tell:
                measures |= dict.fromkeys(names)
                continue
            answers, penalties[next(iter(names))] = _answers(rows, sums, width, next(iter(judges.values())))
            measures |= {name: judge(answers, rows[2].y) for name, judge in names.items()}
    tokens = split.test.tokens[encoder][split.test.inside][:, -widths["last"] :]
    measures["token_rank"] = rank.effective_rank(tokens[loader.numbers(len(tokens), RANK_TOKENS)])
    measures["pooled_rank"] = rank.effective_rank(split.test.pooled[encoder])
    return measures, penalties


def constant(split: Split) -> dict[str, float | None]:
    """What answers that are the same of every test patch would be worth: the share of objects, and the best mIoU."""
    test = split.test
    if not test.scored.any():
        return {"object_ap_constant": None, "linear_miou_constant": None}
    seen = np.bincount(test.majority[test.scored])
    return {
        "object_ap_constant": float(test.objects(split.background)[test.scored].mean()),
        "linear_miou_constant": float(seen.max() / seen.sum() / np.count_nonzero(seen)),
    }


def _answers(rows: list[Rows], sums: list[Sums], width: int, judge: Judge) -> tuple[np.ndarray, float]:
    """(What the line says of the test patches, its penalty). rows: to fit to, held out, to test. sums: of the first
    two. width: of the end of a token that is read."""
    part = slice(rows[0].x.shape[1] - width, None)
    fit, held_out = (each.of_features(part) for each in sums)
    good = [judge(line(rows[1].x[:, part]), rows[1].y) for line in fit.lines(PENALTIES)]
    penalty = PENALTIES[int(np.argmax(good))]
    (line,) = (fit + held_out).lines([penalty])
    return line(rows[2].x[:, part]), penalty


def _of_objects(split: Split, encoder: int) -> list[Rows]:
    """y: 1 for an object, -1 for background."""
    known = [(part, part.objects(split.background)[part.scored]) for part in split.parts()]
    return [Rows(part.tokens[encoder][part.scored], np.where(is_one, 1.0, -1.0)[:, None]) for part, is_one in known]


def _of_classes(split: Split, encoder: int) -> list[Rows]:
    """y: of each class 1 for its own, -1 for others."""
    classes = split.test.counts.shape[-1]
    seen = [part.majority[part.scored] for part in split.parts()]
    known = np.bincount(np.concatenate(seen[:2]), minlength=classes)
    weights = np.sqrt(known.sum() / np.maximum(known, 1))
    return [
        Rows(part.tokens[encoder][part.scored], 2.0 * np.eye(classes)[labels] - 1, weights[labels])
        for part, labels in zip(split.parts(), seen, strict=True)
    ]


def _of_pixels(split: Split, encoder: int) -> list[Rows]:
    """y: the pixels, 0..1."""
    inside = [(part.tokens[encoder][part.inside], part.pixels[part.inside]) for part in split.parts()]
    return [Rows(tokens, pixels.reshape(len(pixels), -1) / np.float32(255)) for tokens, pixels in inside]


def precision(answers: np.ndarray, y: np.ndarray) -> float:
    """Average precision, 0..1."""
    from sklearn.metrics import average_precision_score  # slow to import

    return float(average_precision_score(y[:, 0] > 0, answers[:, 0]))


def miou(answers: np.ndarray, y: np.ndarray) -> float:
    """Mean IoU, 0..1, over the classes that some patch has or gets."""
    classes = y.shape[1]
    places = y.argmax(axis=1) * classes + answers.argmax(axis=1)
    return confusion.scores(np.bincount(places, minlength=classes**2).reshape(classes, classes)).miou


def explained(answers: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of all of y, at most 1; negative where the means would be better answers."""
    return float(1 - np.square(answers - y).sum(dtype=np.float64) / np.square(y - y.mean(axis=0)).sum(dtype=np.float64))


def explained_within(answers: np.ndarray, y: np.ndarray, channels: int) -> float:
    """The same of what is left of pixels, and of the answers, without the mean of each patch and channel."""

    def left(pixels: np.ndarray) -> np.ndarray:
        of_patch = pixels.reshape(len(pixels), -1, channels)
        return (of_patch - of_patch.mean(axis=1, keepdims=True)).reshape(len(pixels), -1)

    return explained(left(answers), left(y))
