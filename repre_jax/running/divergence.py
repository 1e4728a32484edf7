"""Watches what a run logs: says when the loss or the embeddings look collapsed, ends it when no step is finite."""

from collections.abc import Callable, Mapping

from repre_jax.core.errors import UserError
from repre_jax.frameworks.base import NARROW, Collapse

REMEDIES = (
    "wait, if the warm-up is not over or the queue is still new",
    "--config.optim.lr to half of it",
    "--config.optim.warmup_epochs to twice as many",
    "--config.dtype=float32, if it is bfloat16",
    "stronger augmentation: a smaller config.augment.crop_scale, more config.augment.jitter",
    "a larger --config.batch_size",
)


class Watch:
    """To be shown what each logging step measured, in order."""

    def __init__(self, collapse: Collapse | None, patience: int, stop_after: int, skipped: int = 0):
        """collapse: what one looks like, None where there is none. patience: logged steps in a row before a warning.
        stop_after: skipped steps in a row before the end. skipped: steps that were skipped before this start."""
        self.collapse, self.patience, self.stop_after = collapse, patience, stop_after
        self._at_value = self._narrow = 0
        self._skipped = skipped

    def collapsed(self, values: Mapping[str, float | None]) -> str | None:
        """What to say about a collapse; once for each time that one lasts `patience` logged steps."""
        loss, spread, even = (values.get(name) for name in ("contrastive", "embedding_std", "embedding_std_uniform"))
        if self.collapse is None or loss is None or spread is None or even is None:
            return None
        at_value = abs(loss - self.collapse.value) <= self.collapse.tolerance
        narrow = spread < NARROW * even
        self._at_value = self._at_value + 1 if at_value else 0
        self._narrow = self._narrow + 1 if narrow else 0
        found = []
        if self._at_value == self.patience:
            found.append(
                f"the contrastive loss is {loss:.4f}, as if nothing could be told apart ({self.collapse.formula})"
            )
        if self._narrow == self.patience:
            found.append(f"the embeddings' standard deviation is {spread:.4f}, against {even:.4f} for an even spread")
        if not found:
            return None
        remedies = (*self.collapse.remedies, *REMEDIES)
        lines = "\n".join(f"  {number}. {remedy}" for number, remedy in enumerate(remedies, start=1))
        return (
            f"Warning: this looks like a collapse. For {self.patience} logged steps, {' and '.join(found)}.\n"
            f"  What helps, to be tried in this order with a new --workdir:\n{lines}"
        )

    def skipped(
        self, step: int, values: Mapping[str, float | None], *, last: bool, saved: Callable[[], int | None]
    ) -> str | None:
        """A line about steps skipped since the last one.

        last: whether the run ends with this step. saved: gives the newest checkpoint's step.
        Raises UserError after `stop_after` of them in a row, and when the last step is one of them.
        """
        new = int(values.get("skipped") or 0) - self._skipped
        if new <= 0:
            return None
        self._skipped += new
        row, first = int(values["skipped_in_a_row"] or 0), int(values["first_bad_step"] or 0)
        if row < self.stop_after and not (row and last):
            return f"Warning: loss or gradient not finite, steps skipped: {new}; the last of them from step {first} on."
        kept = f"checkpoint {saved()}, from before that" if saved() else "nothing: no checkpoint was due before that"
        raise UserError(
            f"Training has diverged: loss or gradient not finite from step {first} to {step}, in a row: {row}.\n"
            f"  kept:     {kept}\n"
            "  change:   --config.optim.lr to a lower value, --config.optim.clip_norm=3.0 or --config.dtype=float32,\n"
            "            and --workdir, to start anew"
        )
