"""Locks on files that their holders remove."""

import os
from typing import IO


def is_removed(file: IO) -> bool:
    """Whether an open file has no name any more: between opening and locking it the one who had it may have removed it,
    and the next one may have made, and locked, another of the same name."""
    return os.fstat(file.fileno()).st_nlink == 0
