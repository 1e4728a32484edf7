"""What is shown while a command works: lines, and progress bars, which in a log file are a line now and then.

Results, warnings and errors are shown always, what is said here is left out by --quiet.
"""

import contextlib
import errno
import io
import sys
import time
from collections.abc import Iterator
from typing import Self

from tqdm import tqdm

from repre_jax.system import streams

LOG_EVERY = 30.0  # seconds between two lines of a bar in a log file
_hushed: list[bool] = []  # as global as the terminal is


@contextlib.contextmanager
def quiet(on: bool) -> Iterator[None]:
    """While entered, and if `on`: no bars, and nothing from say()."""
    _hushed.append(on)
    try:
        yield
    finally:
        _hushed.pop()


def hushed() -> bool:
    """Whether --quiet was given."""
    return any(_hushed)


def escape_unprintable() -> None:
    """Lets the terminal show what it has no character for as \\xe9 and the like: a file's name need not be text, and a
    message must not end in an error of its own."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Prints a line, above the bar if there is one, unless --quiet was given."""
    if not hushed():
        warn(text)


def warn(text: str) -> None:
    """Prints a line always; at once, for whoever follows a log file. Where there is no output, or its terminal has
    closed, nobody reads it."""
    if sys.stdout is None:
        return
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        streams.leave_terminal()


def bar(
    total: int,
    what: str,
    *,
    unit: str = " images",
    done: int = 0,
    leave: bool = True,
    shown: bool = True,
    in_log: bool = True,
) -> "tqdm | Lines":
    """Progress with the time left, to be entered and then told by update(). leave: the full bar, in the end.

    shown: False for a bar that another process shows. in_log: False where lines of other origin tell as much.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if sys.stderr is None or hushed() or not shown or not (on_terminal or in_log):
        return tqdm(disable=True)
    if on_terminal:
        return tqdm(total=total, initial=done, desc=what, unit=unit, unit_scale=True, dynamic_ncols=True, leave=leave)
    return Lines(total, what, unit, done)


class Lines:
    """A bar's stand-in for a log file: a line every LOG_EVERY seconds, and one at the end if there were others."""

    def __init__(self, total: int, what: str, unit: str, done: int):
        self.total, self.what, self.unit = total, what, unit
        self.n: float = done
        self._first, self._begun = done, time.monotonic()
        self._said = self._begun

    def update(self, count: float = 1) -> None:
        self.n += count
        if time.monotonic() - self._said >= LOG_EVERY and self.n < self.total:
            self._say()

    def set_description(self, text: str, refresh: bool = True) -> None:
        """A bar's: what stands before it changes; a line is written when it is time."""
        del refresh
        self.what = text

    def _say(self) -> None:
        self._said = time.monotonic()
        line = tqdm.format_meter(
            self.n,
            self.total,
            elapsed=self._said - self._begun,
            initial=self._first,
            prefix=self.what,
            unit=self.unit,
            unit_scale=True,
            bar_format="{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left",
        )
        print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._said > self._begun and kind is None:
            self._say()
