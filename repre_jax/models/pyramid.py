"""Which blocks of a ViT form the feature pyramid (RePre section 3.2)."""

from collections.abc import Sequence
from numbers import Integral

from repre_jax.core.errors import UserError
from repre_jax.models import checks

LEVELS = 4  # unless they are set


def spread_blocks(depth: int, pyramid_levels: int) -> tuple[int, ...]:
    """The blocks (counted from 1) whose outputs form the pyramid: floor(i * depth / K), i = 1..K.

    12 blocks and K = 4 give 3, 6, 9, 12; 6 blocks give 1, 3, 4, 6. The last block always belongs to it. The paper
    writes multiples of floor(L / K), which is the same whenever K divides L and would miss y_L otherwise.

    Raises UserError when there are more pyramid levels than blocks, or none.
    """
    if not 1 <= pyramid_levels <= depth:
        raise UserError(
            f"encoder.pyramid_levels {pyramid_levels} does not fit an encoder of {depth} blocks.\n"
            f"  expected: 1 to {depth}, each level being the output of another block\n"
            f"  change:   --config.encoder.pyramid_levels={min(max(pyramid_levels, 1), depth)}"
        )
    return tuple(i * depth // pyramid_levels for i in range(1, pyramid_levels + 1))


def chosen_blocks(depth: int, blocks: Sequence[int] | None, pyramid_levels: int | None) -> tuple[int, ...]:
    """The blocks given, else spread_blocks of so many levels, LEVELS unless they are set.

    Raises UserError for blocks that do not rise within 1..depth, or are not as many as the levels.
    """
    if blocks is None:
        levels = LEVELS if pyramid_levels is None else pyramid_levels
        checks.at_least_one(pyramid_levels=levels)
        return spread_blocks(depth, levels)
    whole = isinstance(blocks, Sequence) and all(isinstance(block, Integral) for block in blocks)
    if not whole or not blocks or list(blocks) != sorted({block for block in blocks if 1 <= block <= depth}):
        raise UserError(
            f"encoder.pyramid_blocks is {blocks!r}.\n"
            f"  expected: rising numbers from 1 to {depth}, the blocks whose outputs form the pyramid\n"
            f"  change:   --config.encoder.pyramid_blocks='{spread_blocks(depth, min(depth, LEVELS))}'"
        )
    if pyramid_levels not in (None, len(blocks)):
        raise UserError(
            f"encoder.pyramid_levels is {pyramid_levels}, and encoder.pyramid_blocks names {len(blocks)}: {blocks}.\n"
            "  change:   leave one of them out"
        )
    return tuple(blocks)
