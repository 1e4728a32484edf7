"""Too many open files, as the system says it: the limit is named, and no record is left out for it."""

import contextlib
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from repre_jax.core import open_files
from repre_jax.core.errors import UserError
from repre_jax.data import crops, loader, views
from repre_jax.system.command_line import ending

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def at_most(count):
    """While entered, this process may have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Records:
    """Of which none can be opened."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        with at_most(3):
            return {"image": Path(__file__).read_bytes()}


def test_records_are_not_left_out_for_it():
    view = views.CentreView((4, 4), 1.0)
    with pytest.raises(UserError, match=r"A record cannot be read: this process may have [\d,]+ files open"):
        list(loader.test_batches(Records(), view, batch_size=3))
    view = views.PretrainView(crops.RandomCrops(2, (4, 4), (0.3, 1.0), (0.75, 1.33)))
    with pytest.raises(UserError, match=r"A record cannot be read: this process may have [\d,]+ files open"):
        next(loader.train_batches(Records(), view, seed=0, batch_size=3, start_step=0, workers=0))


def test_anywhere_else_it_ends_a_command_with_the_limit(capsys):
    with ending("The same command goes on.") as this, at_most(3):
        Path(__file__).read_bytes()
    assert this.status == 1
    said = capsys.readouterr().err
    assert said.startswith("Too many open files: this process may have ")
    assert said.endswith("The same command goes on.\n")


@pytest.mark.parametrize(("count", "few"), [(255, True), (256, False)])
def test_a_low_limit_is_told_before_the_first_step(count, few):
    with at_most(count):
        said = open_files.warning()
    assert (said or "").startswith("Warning: this process may have 255 files open") == few
    assert (said is None) != few


@pytest.mark.parametrize("hard", [None, 1000])
def test_the_advice_raises_the_limit(hard):
    """Typed in the shell whose limit was low; where that may not be raised, it is not advised, and Docker's flag is."""
    program = "from repre_jax.core import open_files; print(open_files.limit())"
    lower = f"ulimit -Hn {hard}; " if hard else ""
    shell = f"ulimit -Sn 100; {lower}{shlex.join([sys.executable, '-c', program])}"
    said = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("this process may have 100 files open at once")
    advice = re.search(r"change:   (.*?)(?:,|;)", said)[1]
    if hard:
        assert advice == "docker run --ulimit nofile=4096:4096"
        return
    raised = subprocess.run(
        ["bash", "-c", f"ulimit -Sn 100; {advice} && ulimit -n"], capture_output=True, text=True, check=True
    )
    assert int(raised.stdout) == 4096
