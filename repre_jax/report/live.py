"""The report page of a run while it trains."""

import time
from pathlib import Path

from repre_jax.report import page
from repre_jax.system import terminal

SHARE = 0.01  # of a run's time that writing its page may take


class LivePage:
    """Rewrites RUN/report.html so seldom that it costs at most SHARE of the time.

    A page that cannot be written ends no run: that is said once, and tried again later.
    """

    def __init__(self, run: Path, write: bool):
        """write: False in all processes of a run but one."""
        self.run, self._writes, self._next, self._failed = run, write, 0.0, False

    def follow(self) -> None:
        """Writes the page if it is time again."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self, *, stopped: bool = False) -> None:
        """Writes the page. stopped: as that of a run that does not go on by itself."""
        if not self._writes:
            return
        begun = time.monotonic()
        try:
            page.write(self.run, stopped=stopped)
        except Exception as error:  # of any kind: the run is worth more than its page
            if not self._failed:
                terminal.warn(f"Warning: report.html cannot be written: {type(error).__name__}: {error}")
            self._failed = True
        self._next = time.monotonic() + (time.monotonic() - begun) / SHARE
