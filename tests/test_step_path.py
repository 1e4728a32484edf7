"""docs/step.md lists the files of one training step: on the way from main.py to the losses, and what they call."""

import re

from tests.helpers.runs import ROOT

MOST_FILES, MOST_LINES = 12, 1200


def listed(heading):
    section = (ROOT / "docs" / "step.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^- `([^`]+)`", section, re.MULTILINE)


def test_the_way_to_the_losses_is_short_and_documented(step_trace):
    way = listed("The path")
    assert set(way) == set(step_trace["way"])
    assert len(way) == len(set(way)) <= MOST_FILES
    assert sum(len((ROOT / file).read_text().splitlines()) for file in way) <= MOST_LINES


def test_what_the_step_calls_is_documented(step_trace):
    assert set(listed("What it calls")) == set(step_trace["entered"]) - set(step_trace["way"])
