"""What ends a run on purpose. main.py prints the text, without a traceback, and exits with `status`."""

import difflib
from collections.abc import Collection, Iterable, Sequence


def meant(given: str, known: Iterable[str]) -> str:
    """What a message adds to a name that is not known: " Did you mean 'digits'?", or nothing where none is close."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class UserError(Exception):
    """Something that the user can mend. The text says what was expected, what was given and what to change.

    Not a ValueError on purpose: absl and ml_collections catch those while they parse flags and wrap them in a
    traceback of their own.
    """

    status = 1


class UnknownVariant(UserError):
    """A config has no variant of this name. known: those that it has.

    The name '?' asks for them: then the text lists them, and nothing is wrong.
    """

    def __init__(self, name: str, known: Collection[str], more: Sequence[str] = ()):
        words = ", ".join((*known, *more))
        expected = f"{words}, joined by commas" if words else "none: this config has no variants"
        mistake = f"Unknown variant {name!r}.{meant(name, known)}\n  expected: {expected}"
        asked = name == "?"
        super().__init__(f"Variants: {expected}" if asked else mistake)
        self.known = tuple(known)
        self.status = 0 if asked else 1


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
