"""Errors of reading that are not the file's: the process's or the machine's, so that the file can be read another time.

Whoever passes over a file that cannot be read asks here first, or one moment without a free file handle would leave out
records, classes or splits for good. A disk's EIO is the file's own: a bad sector stays where it is.
"""

import errno
import os

from repre_jax.core import open_files
from repre_jax.core.errors import UserError

MEMORY = (os.strerror(errno.ENOMEM), "Insufficient memory")  # the system's words, and OpenCV's
MACHINE = "a machine with more memory, or a larger limit; then the same command"
WORKERS = "--config.data.workers to a smaller number, or a machine with more memory"  # of who loads batches
# Of a disk that is reached by a network and is not there now; ESTALE is a file's that was replaced.
UNREACHABLE = (
    *(errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
)


def check(error: BaseException, what: str = "A file cannot be read", more_memory: str = MACHINE) -> None:
    """Raises UserError where an error, or the text that a library made of one, is not the file's.

    more_memory: what to change where there is none left, by a flag that the caller's command has.
    """
    if open_files.are_used_up(error):
        raise UserError(f"{what}: {open_files.limit()}") from None
    if isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY):
        raise UserError(
            f"{what}: this machine, or the container's limit, has no memory left.\n  change:   {more_memory}"
        ) from None
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        raise UserError(
            f"{what}: {error.strerror}: {error.filename or 'its disk'}\n"
            "  change:   the connection to that disk; then the same command"
        ) from None
