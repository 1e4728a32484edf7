"""What benchmarks/labels.txt shows of pre-training."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def table():
    """{method: [(mean, standard deviation) at 1 %, 10 % and 100 % of the labels]}, in percent."""
    lines = [line for line in (ROOT / "benchmarks" / "labels.txt").read_text().splitlines() if " ± " in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: [tuple(map(float, cell.split(" ± "))) for cell in cells] for name, *cells in rows}


@pytest.mark.parametrize("share", ["1%", "10%"])
def test_pre_training_beats_scratch_with_few_labels_by_more_than_the_spread(share):
    found, column = table(), ["1%", "10%", "100%"].index(share)
    assert {len(cells) for cells in found.values()} == {3}
    (tuned, its_spread), (scratch, spread) = found["fine-tuned"][column], found["from scratch"][column]
    assert tuned - scratch > its_spread + spread
