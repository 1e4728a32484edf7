"""The signals that ask a program to end: Ctrl-C, schedulers, and a terminal that closes."""

import signal

# SIGUSR1 is what SLURM's --signal=USR1@120 sends, SIGHUP what a terminal sends that closes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def outlives_terminal(number: int) -> bool:
    """Whether it is the signal of a terminal that closes, and whoever started this program has it ignored, as nohup
    does."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
