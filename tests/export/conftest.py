"""A trained run that a test may export from, and change."""

import shutil

import pytest


@pytest.fixture
def copy(finished, tmp_path):
    """A run that was trained on two devices, without its older checkpoints."""
    run = tmp_path / "run"
    shutil.copytree(finished[0], run, ignore=shutil.ignore_patterns("[246]", "[246].manifest.json"))
    return run
