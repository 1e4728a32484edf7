"""Standard streams that are not there: closed by whoever started the program, or of a terminal that has closed since.

Only the standard library is imported: a program calls open_closed() before its other imports.
"""

import contextlib
import os
import sys

STANDARD = (0, 1, 2)  # descriptors of input, output and errors


def open_closed() -> None:
    """Gives the null device to each of the three that is closed (`>&-`, pythonw, some schedulers).

    Python has None in place of such a stream. And the next file that is opened gets the free number: what libraries
    print would end up in a checkpoint.
    """
    for number in STANDARD:
        if not _is_open(number):
            _to_null(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def leave_terminal() -> None:
    """Leads output and errors to the null device where their terminal has closed: each further line would raise
    OSError. Nothing happens to a terminal that is still there, nor to a file."""
    for number in STANDARD[1:]:
        try:
            if _is_open(number):
                os.write(number, b"")
        except OSError:
            _to_null(number)


def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(null, number)
        os.close(null)
