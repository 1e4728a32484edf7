"""What orbax and its threads say of a failure: dozens of lines for one, of which the cause is kept."""

import errno
import logging
import os
import sys

import absl.logging

from repre_jax.core import open_files

SYSTEM_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO, *open_files.ERRORS)


def silence() -> None:
    """It logs each detail of a save and dozens of failures for one; Checkpoints.error tells it once."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    if str(what.exc_value) != "Event loop is closed":  # what tensorstore says for each file after the first that fails
        sys.__unraisablehook__(what)


def reason(error: Exception) -> str:
    """What the system said, if that is in there somewhere, else the first line."""
    text = str(error)
    said = [os.strerror(code) for code in SYSTEM_ERRORS if os.strerror(code) in text]
    return said[0] if said else (text.splitlines() or [type(error).__name__])[0]
