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
    pixels, masks = 800 * 1344 * 3 / 1e6, 100 * 800 * 1344 / 8 / 1e6
    image, of_masks = re.search(r"an image of a batch +([0-9.]+) MB, ([0-9.]+) MB of it masks", printed).groups()
    assert (float(image), float(of_masks)) == (round(pixels + masks, 1), round(masks, 1))
    most = float(re.search(r"/dev/shm, 8 workers, batches of 16 +([0-9.]+) GB", printed)[1])
    assert abs(most - 16 * (4 * 8 + 2) * (pixels + masks) / 1e3) < 0.1
    assert int(re.search(r"data.workers=(\d+)", printed)[1]) in range(int(40 * host / 1000), int(40 * host / 1000) + 3)
