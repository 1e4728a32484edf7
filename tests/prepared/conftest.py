"""Pets, a small data set as TFDS prepares it, in a folder that a test may change."""

import shutil

import pytest

from tests.helpers.prepared import prepare


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A folder of data sets that holds pets 1.0.0; to be copied, not changed."""
    root = tmp_path_factory.mktemp("whole")
    prepare(root)
    return root


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "tfds")


@pytest.fixture
def place(root):
    return root / "pets" / "1.0.0"
