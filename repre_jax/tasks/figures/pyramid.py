"""What each pyramid level of an encoder tells apart, as colours."""

from matplotlib.figure import Figure

from repre_jax.core.linen import apply
from repre_jax.evaluation import pyramid
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT
from repre_jax.report.figures import pyramid as drawing
from repre_jax.tasks.figures.subject import Subject

HOW = (
    "Red, green and blue: the first three principal components of a level's features, fitted on all images shown "
    "together, scaled from their 1st to their 99th percentile. A colour means nothing across levels."
)


def draw(subject: Subject) -> Figure:
    """Of the maps that the decoder reads."""
    shown = subject.shown
    maps = subject.run(lambda params, images: apply(subject.encoder, params, images).pyramid, shown.images)
    names = [
        f"{name}\n{level.shape[1]} x {level.shape[2]}"
        for name, level in zip(levels(subject.encoder), maps, strict=True)
    ]
    colours = [pyramid.colours(level) for level in maps]
    return drawing.draw(shown.pixels, colours, names, title=f"Feature pyramid\n{subject.whose}", caption=HOW)


def levels(encoder: Encoder) -> list[str]:
    """For example 'block 3', or of a Swin 'stage 1' and below it 'block 2'."""
    if isinstance(encoder, ViT):
        return [f"block {number}" for number in encoder.pyramid_blocks]
    return [f"stage {stage}\nblock {sum(encoder.depth[:stage])}" for stage in range(1, len(encoder.depth) + 1)]
