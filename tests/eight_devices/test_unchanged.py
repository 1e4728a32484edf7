"""Speed never changes results: the losses of a few steps are those of the code before it was made faster.

With eight fake devices, as they were recorded: with two, XLA rounds otherwise, and that alone moves the third step's
gradient norm of moco_vit_s by 5 %, in this code and in the code before it alike.
"""

import json

import pytest

from tests.golden import losses

WANTED = json.loads(losses.FILE.read_text())


FIRST = ("moco_vit_s", "moby_swin_t")  # the others take longer than make test has


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in losses.CASES]
)
def test_losses_are_what_they_were(name):
    """float32, within 1e-5 of themselves, over three steps: every colour operation, ViT and Swin, all decoders."""
    for step, (row, wanted) in enumerate(zip(losses.losses(name), WANTED[name], strict=True), start=1):
        assert row == pytest.approx(wanted, rel=1e-5), step
