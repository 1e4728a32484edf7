"""Ends a process that hangs, with a message that says in what."""

import threading
from collections.abc import Callable

TICK = 1.0  # seconds


class Watchdog:
    """While entered, a thread ends the process when it has been told nothing new for `seconds`; never for 0.

    It counts its own ticks instead of asking the clock: a process that was suspended, or a laptop that slept, has not
    waited. Functions of JAX, which wait outside Python, do not stop it.
    """

    def __init__(self, seconds: float, who: str, end: Callable[[str], None]):
        """who: names this process, as in 'Process 1 of 2 on node7'. end(text) prints the text and ends it."""
        self.seconds, self.who, self._end = seconds, who, end
        self._doing, self._ticks = "Starting", 0
        self._finished: int | None = None
        self._left = threading.Event()

    def __enter__(self) -> "Watchdog":
        self._left.clear()
        if self.seconds:
            threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def doing(self, what: str) -> None:
        """Says what begins now, as in 'Step 41: waiting for data'."""
        self._doing, self._ticks = what, 0

    def finished(self, step: int) -> None:
        """Says that the devices are done with a step."""
        self._finished, self._ticks = step, 0

    def _watch(self) -> None:
        while not self._left.wait(TICK):
            self._ticks += 1
            if self._ticks * TICK >= self.seconds:
                last = "none" if self._finished is None else f"step {self._finished}"
                self._end(
                    f"{self.who} hangs. {self._doing}, for {self._ticks * TICK:g} s; the last finished step: {last}.\n"
                    "  change:   of many processes, look at the one that does not wait for the devices: those wait for "
                    "it;\n"
                    "            --config.distributed.step_timeout=SECONDS if this may take longer, 0 for ever\n"
                    "  The same command goes on from the last checkpoint, if there is one."
                )
                return
