"""Which of the project's files a training step enters, and by which way it comes to the losses."""

import contextlib
import functools
import sys
from pathlib import Path

import pytest

from repre_jax.train.pretrain import Pretraining
from tests.helpers.runs import ROOT

ENDS = ("repre_jax/losses/", "repre_jax/train/update.py")  # where a way through the step ends


class StepTrace:
    """way: files on the stacks from main.py to a loss or to the update. entered: all files that the step enters."""

    def __init__(self):
        self.way: set[str] = set()
        self.entered: set[str] = set()

    def profile(self, frame, event, argument):
        """For sys.setprofile."""
        if event != "call" or (file := _ours(frame.f_code.co_filename)) is None:
            return
        self.entered.add(file)
        if file.startswith(ENDS):
            while frame:
                if caller := _ours(frame.f_code.co_filename):
                    self.way.add(caller)
                frame = frame.f_back


@contextlib.contextmanager
def of_step():
    """Yields the StepTrace of the first step that pre-training traces while it is entered."""
    trace, step = StepTrace(), Pretraining.train_step

    @functools.wraps(step)  # a compiled program has its function's name: the other runs find this one's in the cache
    def watched(self, state, batch):
        sys.setprofile(trace.profile)
        try:
            return step(self, state, batch)
        finally:
            sys.setprofile(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretraining, "train_step", watched)
        yield trace


@functools.cache  # a step makes millions of calls
def _ours(filename):
    file = Path(filename)
    if not file.is_relative_to(ROOT) or file.is_relative_to(ROOT / "tests") or ".venv" in file.parts:
        return None
    return str(file.relative_to(ROOT))
