"""Everything in this folder needs eight devices: REPRE_TEST_DEVICES=8 pytest tests/eight_devices."""

import pytest

from tests.conftest import need_devices


@pytest.fixture(autouse=True)
def eight_devices():
    need_devices(8)
