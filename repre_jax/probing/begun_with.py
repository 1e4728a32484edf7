"""Features that something was trained on already: which records they lack must not change, or all others move up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data.unreadable import SHOWN, what_is_wrong
from repre_jax.evaluation import store


@dataclass(frozen=True)
class Begun:
    """That something was trained on features. left_out: the numbers of the records that had none, None if that was not
    noted with it, as in earlier versions."""

    left_out: Sequence[int] | None

    def without(self, folder: Path) -> Sequence[int] | None:
        """Those numbers, else those that the features in `folder` were made without; None where nobody knows."""
        return store.lacking(folder) if self.left_out is None else self.left_out


def check(source: Records, channels: int, found: store.Split, split: str, without: Sequence[int]) -> None:
    """Raises UserError where records of `source` have no features that had some when something was trained on them."""
    gone = sorted(set(found.left_out) - set(without))
    if not gone:
        return
    lines = [what_is_wrong(source, number, channels) for number in gone[:SHOWN]]
    role = "trained with" if split == "train" else "judged by"
    raise UserError(
        f"{len(gone):,} {split} records cannot be read that the steps so far were {role}:\n"
        + "".join(f"  {line}\n" for line in lines)
        + "  change:   these records back; or --workdir, to start a new one without them"
    )
