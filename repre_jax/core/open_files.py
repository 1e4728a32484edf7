"""How many files this process may have open at once: what to say where that is few, or too few."""

import errno
import os
import resource

ERRORS = (errno.EMFILE, errno.ENFILE)  # of this process, of the whole machine
FEW = 256  # below it, worker processes, many record files or a checkpoint may want more
ENOUGH = 4096  # ImageNet has 1,024, each open once it was read from, and TFDS shuffles through 1,000


def are_used_up(error: BaseException) -> bool:
    """Whether an error, or the text that a library made of one, says that no more files can be opened."""
    if isinstance(error, OSError) and error.errno in ERRORS:
        return True
    return any(os.strerror(number) in str(error) for number in ERRORS)


def limit() -> str:
    """The limit and the way to a higher one, in words and in lines for a message."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 0 or hard >= ENOUGH:
        change = f"ulimit -n {ENOUGH}, in the shell that starts it"
    else:
        change = f"docker run --ulimit nofile={ENOUGH}:{ENOUGH}; elsewhere raise the hard limit, which ulimit -Hn shows"
    return (
        f"this process may have {soft:,} files open at once (ulimit -n)\n"
        f"  change:   {change};\n"
        "            --config.data.workers=0 needs fewer"
    )


def warning() -> str | None:
    """What to say before the first step; None where the limit is high enough."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"Warning: {limit()}" if 0 <= soft < FEW else None
