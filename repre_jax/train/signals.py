"""Stopping a run politely."""

import signal
from types import FrameType
from typing import Any

from tqdm import tqdm


class StopRequest:
    """While entered, SIGINT and SIGTERM ask the loop to stop after the step at hand; a second SIGINT stops at once.

    signal: the number of the signal that came, None as long as none did.
    error:  for whoever runs the loop to say why it cannot go on; raised by its caller once the state is saved.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.error: Exception | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tqdm.write(
            f"{signal.Signals(number).name}: saving after this step. Ctrl-C again stops at once, without saving."
        )
