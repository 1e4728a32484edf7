"""Stopping a run politely."""

import contextlib
import multiprocessing
import os
import signal
from types import FrameType
from typing import Any

from jax.sharding import Mesh

from repre_jax.running.agreement import Agreement
from repre_jax.system import end_signals, streams


class StopRequest:
    """While entered, SIGINT, SIGTERM, SIGUSR1 and, unless nohup has it ignored, SIGHUP ask for the end after the step
    at hand; a second SIGINT ends at once.

    signal: the number of the signal that came, None as long as none did.
    error:  why this process cannot go on; to be raised once the state is saved.
    """

    def __init__(self, mesh: Mesh | None = None) -> None:
        """mesh: over all processes, which have to agree; None for one process."""
        self.signal: int | None = None
        self.error: Exception | None = None
        self._agreement = Agreement(mesh)
        self._before: dict[int, Any] = {}
        self._interrupts = 0

    @property
    def number(self) -> int:
        """Of the signal that came, as a process's exit status wants it; 0 as long as none did."""
        return self.signal or 0

    def agreed(self) -> bool:
        """Whether any process got a signal; waits for all of them. `signal` is then the same everywhere."""
        return self._agree(self._agreement.now(self.signal or 0))

    def agreed_before(self) -> bool:
        """Likewise as of the call before this one, so that nobody waits for the devices; now with one process."""
        return self._agree(self._agreement.lagging(self.signal or 0))

    def _agree(self, number: int) -> bool:
        self.signal = number or self.signal
        return number > 0

    def __enter__(self) -> "StopRequest":
        for number in end_signals.SIGNALS:
            if end_signals.outlives_terminal(number):
                continue
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            streams.leave_terminal()  # the lines to come would end the run before it has saved
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            _end_at_once()
        if self.signal is None:
            self.signal = number
            again = "Ctrl-C again" if number == signal.SIGINT else "Ctrl-C twice"
            name = signal.Signals(number).name
            _tell(f"{name}: what is done is saved after this step. {again} ends at once, without saving.")


def _end_at_once() -> None:
    """Without waiting for what other threads write: the next start finds the last whole checkpoint."""
    _tell("Interrupted again: ended at once. The same command goes on from the last checkpoint, if there is one.")
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + signal.SIGINT)


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"\n{text}\n".encode())  # print() must not be entered twice, and a handler may interrupt it
