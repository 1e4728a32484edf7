"""Segmentation heads by name, and what each wants of the encoder."""

import math
from numbers import Integral

from repre_jax.core.errors import UserError
from repre_jax.models.encoders import Encoder
from repre_jax.models.pyramid import LEVELS, spread_blocks
from repre_jax.models.segmentation.fpn import Fpn
from repre_jax.models.segmentation.linear import Linear
from repre_jax.models.segmentation.mla import Mla
from repre_jax.models.segmentation.up import Up
from repre_jax.models.vit import ViT

# Any of them: head.init(key, output, train=False) gives 'params', for auxiliary heads too, and 'batch_stats', and
# head.apply(variables, output, train=...) maps an EncoderOutput to SegmentationLogits.
Head = Up | Mla | Linear | Fpn

OF_VIT = ("naive", "pup", "mla")
OF_SWIN = ("fpn",)
OF_BOTH = ("linear", "linear_pyramid")
NAMES = (*OF_VIT, *OF_SWIN, *OF_BOTH)


def build(name: str, classes: int, encoder: Encoder) -> Head:
    """The head `name` for this encoder's maps, in its dtype.

    naive, pup, mla   SETR's, for ViT, with auxiliary heads
    fpn               Semantic FPN, for Swin
    linear            BatchNorm and one matrix on the last tokens; linear_pyramid: on all maps of the pyramid

    SETR, whose patches are of 16 x 16, enlarges PUP's map eightfold, to half the image's sides, and those of its
    auxiliary branches and MLA's fourfold, to a quarter. Maps of smaller patches are enlarged to the same sides.

    Raises UserError for an unknown head, one that this encoder cannot feed, or less than two classes.
    """
    _check(name, classes, encoder)
    patch, dtype = encoder.patch, encoder.dtype
    if name == "naive":
        return Up(classes, 1, (1,), (1,), auxiliary_of_last=False, dtype=dtype)
    quarter = max(1, min(4, patch // 4))
    if name == "pup":
        doublings = max(0, min(3, int(math.log2(patch)) - 1))
        factors = (2,) * doublings + (1,) * (4 - doublings)
        return Up(classes, 3, factors, (quarter,), auxiliary_of_last=True, dtype=dtype)
    if name == "mla":
        return Mla(classes, quarter, dtype=dtype)
    if name == "fpn":
        return Fpn(classes, dtype=dtype)
    return Linear(classes, whole_pyramid=name == "linear_pyramid")


def blocks(name: str, depth: int) -> tuple[int, ...]:
    """The blocks (from 1) whose outputs must form a ViT's pyramid.

    SETR's own for 12 and 24 blocks: naive 3-6-9-12 and 10-15-20-24, pup 5-8-10-12 and 10-15-20-24, mla 3-6-9-12 and
    6-12-18-24. Of another depth: pup by the same share of it, rounded, and the others evenly spread. All evenly where
    two would coincide, and all blocks of an encoder that has less than four.

    Raises UserError for an unknown head or one for Swin, whose pyramid is its stages.
    """
    if name not in (*OF_VIT, *OF_BOTH):
        raise UserError(
            f"The segmentation head {name!r} takes no blocks of a ViT.\n  expected: {_listed(OF_VIT, OF_BOTH)}"
        )
    if name == "linear":
        return (depth,)
    shares = tuple((block * depth + 12) // 24 for block in (10, 15, 20, 24))
    if (name == "pup" or (name, depth) == ("naive", 24)) and len({0, *shares}) == 5:
        return shares
    return spread_blocks(depth, min(depth, LEVELS))


def needs_class_token(name: str) -> bool:
    """Whether a ViT keeps its class token for this head: SETR-MLA's drops it before the first block, the others behind
    the last."""
    return name != "mla"


def _listed(*names: tuple[str, ...]) -> str:
    return ", ".join(name for group in names for name in group)


def _check(name: str, classes: int, encoder: Encoder) -> None:
    """Raises UserError."""
    if name not in NAMES:
        raise UserError(f"Unknown segmentation head {name!r}.\n  expected: {_listed(NAMES)}")
    own, kind = (OF_VIT, "ViT") if isinstance(encoder, ViT) else (OF_SWIN, "Swin")
    if name not in (*own, *OF_BOTH):
        raise UserError(
            f"The segmentation head {name!r} cannot read a {kind}'s maps.\n  expected: {_listed(own, OF_BOTH)}\n"
            f"  change:   variant {own[0]} in place of {name}, as in --config configs/segment.py:{own[0]}"
        )
    if isinstance(encoder, ViT) and encoder.pyramid_blocks[-1] != encoder.depth:
        raise UserError(
            f"The encoder's pyramid ends at block {encoder.pyramid_blocks[-1]} of {encoder.depth}, and the segmentation"
            f" head {name!r} reads the last.\n"
            f"  change:   --config.encoder.pyramid_blocks='{blocks(name, encoder.depth)}'"
        )
    if not isinstance(classes, Integral) or isinstance(classes, bool) or classes < 2:
        raise UserError(f"The number of classes is {classes!r}.\n  expected: a whole number of at least 2")
