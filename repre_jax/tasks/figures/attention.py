"""Where encoders look: one with its heads, or several side by side as in the paper's Figure 4 (left)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repre_jax.core.errors import UserError
from repre_jax.evaluation import attention
from repre_jax.models.vit import ViT
from repre_jax.report.comparison import short_names
from repre_jax.report.figures import attention as drawing
from repre_jax.tasks.figures.subject import NotPossible, Subject

ROLLOUT = (
    "A Swin's map is attention rollout, begun at the pooled feature with 1 / T for each of the last stage's T tokens: "
    "through each block r <- (r + A^T r) / 2, with A the mean over heads, windows' shifts and padding undone; "
    "a merged token gives a quarter to each of its four."
)


def draw(subject: Subject) -> Figure:
    """A ViT's heads and their mean, or a Swin's one map, and the patches that hold config.figures.mass of each."""
    shown, maps = subject.shown, maps_of(subject)
    mass = subject.config.figures.mass
    below, tinted = _of_mass(mass)
    if isinstance(subject.encoder, ViT):
        block = _block(subject)
        maps = np.concatenate([maps.mean(axis=1, keepdims=True), maps], axis=1)
        names = ["mean of heads", *(f"head {head}" for head in range(1, maps.shape[1]))]
        title, how = f"Attention of the class token in block {block}", ""
    else:
        names, title, how = ["rollout"], "Attention rollout", f"{ROLLOUT} "
    return drawing.draw(
        shown.pixels,
        maps,
        attention.largest_mass(maps, mass),
        names,
        below=below,
        title=f"{title}\n{subject.whose}",
        caption=how + tinted,
    )


def compare(subjects: Sequence[Subject]) -> Figure:
    """One map an encoder, a ViT's mean over heads, a Swin's rollout, and the patches that hold config.figures.mass of
    it. All see the first one's images."""
    maps = [of_one.mean(axis=1) if of_one.ndim == 4 else of_one[:, 0] for of_one in map(maps_of, subjects)]
    short = short_names([subject.source for subject in subjects])
    names = [_column(subject, name) for subject, name in zip(subjects, short, strict=True)]
    mass = subjects[0].config.figures.mass
    below, tinted = _of_mass(mass)
    vits = {_block(subject) for subject in subjects if isinstance(subject.encoder, ViT)}
    blocks = " and ".join(map(str, sorted(vits)))
    how = [f"A ViT's map is the mean over heads of the class token's attention in block {blocks}."] if vits else []
    how += [ROLLOUT] if any(not isinstance(subject.encoder, ViT) for subject in subjects) else []
    return drawing.compare(
        subjects[0].shown.pixels,
        maps,
        [attention.largest_mass(of_one, mass) for of_one in maps],
        names,
        below=below,
        title="Attention",
        caption=" ".join([*how, tinted]),
    )


def _of_mass(mass: float) -> tuple[str, str]:
    """What the row of the patches that hold it is called, and what it shows."""
    tinted = "the fewest patches of a map that hold as much; the others are tinted."
    return f"{mass:.0%} of\nthe sum", f"{mass:.0%} of the sum: {tinted}"


def _column(subject: Subject, name: str) -> str:
    """What stands above it, a line each: what it is, its name, its network and step."""
    return "\n".join(dict.fromkeys(filter(None, [described(subject), name, subject.state])))


def maps_of(subject: Subject) -> np.ndarray:
    """float32 [n, heads, h, w] of a ViT's class token, [n, 1, h, w] of a Swin.

    Raises UserError for a block that the encoder does not have.
    """
    encoder, images = subject.encoder, subject.shown.images
    if isinstance(encoder, ViT):
        if not encoder.class_token:
            raise NotPossible(f"{subject.whose} has no class token, whose attention a ViT's figure shows.")
        return subject.run(attention.of_class_token(encoder, _block(subject)), images)
    if subject.config.figures.block is not None:
        raise UserError(
            "figures.block is set, and a Swin's map goes through all of its blocks.\n"
            "  change:   leave --config.figures.block out"
        )
    return subject.run(attention.rollout(encoder), images)[:, None]


def described(subject: Subject) -> str:
    """What the decoder read in training, as the paper's Figure 4 names its columns."""
    if subject.found.origin["branch"] == "untrained":
        return "untrained"
    trained = subject.found.trained
    if trained is None:
        return "a file of weights"
    if not trained.repre.enabled:
        return "no decoder"
    return "last layer's features" if trained.repre.single else "multi-level features"


def _block(subject: Subject) -> int:
    if not isinstance(subject.encoder, ViT):
        raise ValueError("Only a ViT has a class token in each block.")
    depth, block = subject.encoder.depth, subject.config.figures.block
    if block is not None and not 1 <= block <= depth:
        raise UserError(
            f"figures.block is {block}, and {subject.name} has {depth} blocks.\n"
            f"  expected: 1 to {depth}\n  change:   --config.figures.block"
        )
    return block or depth
