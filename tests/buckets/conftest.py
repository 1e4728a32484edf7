"""A server of buckets, and a folder for each test in one."""

import re

import pytest

from repre_jax.core import config_paths
from tests.helpers import bucket


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    with bucket.served(tmp_path_factory.mktemp("server") / "log") as port, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.variables(port).items():
            patch.setenv(name, value)
        yield port


@pytest.fixture
def folder(server, request):
    """A folder of the bucket that no other test has."""
    return config_paths.absolute(f"gs://{bucket.NAME}/{re.sub(r'[^a-z_]', '-', request.node.name)}")
