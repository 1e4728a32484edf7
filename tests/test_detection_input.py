"""The benchmark of a detector's input, on few images."""

import re
import sys

from benchmarks import detection_input


def test_it_prints_what_a_core_does(monkeypatch, capsys):
    """Positive and consistent, not fast: speed is no test's business."""
    monkeypatch.setattr(sys, "argv", ["detection_input", "--images=8", "--workers=0", "--images-per-second=40"])
    monkeypatch.setattr(detection_input, "FOUND", 3)
    detection_input.run()
    printed = capsys.readouterr().out
    parts = {name.strip(): float(value) for name, value in re.findall(r"^(.*?) +([0-9.]+) ms$", printed, re.MULTILINE)}
    assert min(parts.values()) > 0
    host = parts["read"] + parts["the whole train view"] + parts["put into a batch"]
    rate = float(re.search(r"one core +([0-9.]+) images/s", printed)[1])
    assert abs(rate - 1000 / host) < 0.02 * rate
    assert int(re.search(r"data.workers=(\d+)", printed)[1]) in range(int(40 * host / 1000), int(40 * host / 1000) + 3)
