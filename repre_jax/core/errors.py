"""What ends a run on purpose. main.py prints the text, without a traceback, and exits with `status`."""

from collections.abc import Collection, Sequence


class UserError(Exception):
    """Something that the user can mend. The text says what was expected, what was given and what to change.

    Not a ValueError on purpose: absl and ml_collections catch those while they parse flags and wrap them in a
    traceback of their own.
    """

    status = 1


class UnknownVariant(UserError):
    """A config has no variant of this name. known: those that it has."""

    def __init__(self, name: str, known: Collection[str], more: Sequence[str] = ()):
        words = ", ".join((*known, *more))
        expected = f"{words}, joined by commas" if words else "none: this config has no variants"
        super().__init__(f"Unknown variant {name!r}.\n  expected: {expected}")
        self.known = tuple(known)


class Gone(UserError):
    """A run, a file of weights or a checkpoint is not there, or not any more."""


class Ended(BaseException):
    """A signal came where nothing was to be saved. No Exception, as KeyboardInterrupt is none: what it interrupts, such
    as looking at a checkpoint, has not failed."""

    def __init__(self, text: str, signal: int):
        super().__init__(text)
        self.status = 128 + signal


class Interrupted(Exception):
    """An evaluation was interrupted between two batches, because a process was asked to stop. The text says after how
    much of it."""


class Stopped(Exception):
    """The run was asked to stop by a signal and has saved its state."""

    def __init__(self, text: str, signal: int):
        super().__init__(text)
        self.status = 128 + signal  # the shell's convention
