"""Several runs in one page."""

import html
import re

import pytest

from repre_jax.core import run_files
from repre_jax.frameworks.base import NARROW
from repre_jax.report import comparison
from repre_jax.report.run import read
from repre_jax.tools import compare
from tests.helpers.logged import RESULT, curves, rows, write
from tests.test_page import Reader


def compared(tmp_path, *runs):
    out = tmp_path / "out.html"
    assert compare.main([*map(str, runs), "--out", str(out)]) == 0
    return out.read_text()


def test_each_run_has_its_curve_of_each_metric(tmp_path):
    first = write(tmp_path / "a", rows(20), result=RESULT)
    second = write(tmp_path / "b", [{"step": i, "loss": 1.0 * i, "entropy": 2.0 * i} for i in range(30)])
    drawn = curves(compared(tmp_path, first, second))
    for number, run in enumerate((first, second), start=1):
        for name in {name for row in run_files.read_metrics(run / "metrics.jsonl") for name in row} - {"step"}:
            if name == "embedding_std_uniform":
                continue  # stands in the embeddings' panel
            finite = [row for row in run_files.read_metrics(run / "metrics.jsonl") if row.get(name) is not None]
            assert len(drawn.pop(f"{name}-{number}")) == len(finite)
    assert not drawn


def test_curves_share_one_axis_of_steps_or_of_images(tmp_path):
    """A run of twice the batch has seen as many images after half the steps."""
    lines = [{"step": step, "loss": float(step)} for step in (0, 10, 20)]
    half = [{"step": step, "loss": float(step)} for step in (0, 5, 10)]
    first, same = write(tmp_path / "a", lines), write(tmp_path / "b", half)
    twice = write(tmp_path / "c", half, {"batch_size": 128})
    text = compared(tmp_path, first, same)
    a, b = (curves(text)[f"loss-{number}"] for number in (1, 2))
    assert b[2] == a[1]
    assert "By step." in text
    text = compared(tmp_path, first, twice)
    a, b = (curves(text)[f"loss-{number}"] for number in (1, 2))
    assert b[2][0] == a[2][0]
    assert b[2][1] == a[1][1]
    assert "By images seen" in text
    assert "at 1,280" in text


def panels_of(text):
    """Title -> what its legend says of each line, one that is compared with in grey."""
    found = {}
    for title, panel in re.findall(r'<figure class="panel"><h3>(.*?)</h3>(.*?)</figure>', text):
        lines = re.findall(r"stroke: ([^;]*);[^>]*></line></svg><span>(.*?)</span><span><b>(.*?)</b>", panel)
        found[html.unescape(title)] = [(html.unescape(label), value, colour) for colour, label, value in lines]
    return found


def test_what_runs_are_alike_to_be_compared_with_is_grey(tmp_path):
    lower = [row | ({"knn_top1": 0.5} if row["step"] == 0 else {}) for row in rows(20)]
    first, second = write(tmp_path / "a", result=RESULT), write(tmp_path / "b", lower, result=RESULT)
    grey, text = "var(--muted)", compared(tmp_path, first, second)
    found = panels_of(text)
    assert found["k-NN top-1"][2:] == [("raw pixels", "94.4%", grey)], "they were not alike before the first step"
    assert found["Standard deviation of the embeddings"][2:] == [
        ("even spread, 1/√d", "0.125", grey),
        ("collapse, below", f"{NARROW * 0.125:.4g}", grey),
    ]
    assert "Even spread of the embeddings, 1/√d" not in found
    assert text.count("stroke: var(--muted)") == 2 * 3, "in the panel and its legend"
    other = write(tmp_path / "c", [{"step": 1, "embedding_std": 0.1, "embedding_std_uniform": 0.5}])
    found = panels_of(compared(tmp_path, first, other))
    assert len(found["Standard deviation of the embeddings"]) == 2
    assert len(found["Even spread of the embeddings, 1/√d"]) == 2


def test_only_what_differs_of_the_configs_is_listed(tmp_path):
    settings = {"optim": {"lr": 0.1}, "knn": {"k": 20}}
    first, same = write(tmp_path / "a", config=settings), write(tmp_path / "c" / "a", config=settings)
    second = write(tmp_path / "b", config={"optim": {"lr": 0.2}, "dino": None})
    assert comparison.differences([read(first), read(second)]) == {
        "dino": [None, "None"],
        "knn.k": ["20", None],
        "optim.lr": ["0.1", "0.2"],
    }
    text = Reader(compared(tmp_path, first, second)).text
    assert "optim.lr 0.1 0.2" in text
    assert "knn.k 20 no such key" in " ".join(text.split())
    assert "framework.temperature" not in text
    assert "None: every key has the same value." in compared(tmp_path, first, same)


def test_results_stand_side_by_side(tmp_path):
    first = write(tmp_path / "a", result=RESULT)
    second = write(tmp_path / "b", rows(20))
    text = " ".join(Reader(compared(tmp_path, first, second)).text.split())
    assert "state finished step 1,000 of 2,000" in text
    assert "k-NN top-1 95.3% untrained encoder 65.8%, raw pixels 94.4% 82.0% untrained encoder 65.8%" in text
    assert "Steps 2,000 in 3:55 1,000" in text
    assert "http-equiv" not in text


def test_names_are_short_and_tell_runs_apart(tmp_path):
    names = comparison.short_names([tmp_path / "x" / "a", tmp_path / "y" / "a", tmp_path / "y" / "b"])
    assert names == ["x/a", "y/a", "y/b"]
    assert comparison.short_names([tmp_path / "x" / "a", tmp_path / "y" / "b"]) == ["a", "b"]


def test_it_is_written_here_by_default(tmp_path, monkeypatch, capsys):
    for name in "ab":
        write(tmp_path / name, [])
    monkeypatch.chdir(tmp_path)
    assert compare.main(["a", "b"]) == 0
    assert f"Written: {tmp_path / 'compare.html'}" in capsys.readouterr().out
    assert "2 runs compared" in (tmp_path / "compare.html").read_text()


def test_eight_runs_of_other_looks(tmp_path):
    runs = [write(tmp_path / f"r{i}", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]) for i in range(8)]
    text = compared(tmp_path, *runs)
    assert len(curves(text)) == 8
    strokes = {f"var(--curve-{number})" for number in range(1, 9)}
    assert all(text.count(stroke) >= 3 for stroke in strokes), "in the legend, the table and the panel"


@pytest.mark.parametrize(
    ("runs", "more", "words"),
    [
        (["a", "./b/../a"], [], "is given twice"),
        (["a", "empty"], [], "holds no run: it has no config.json"),
        (["a", "nowhere"], [], "holds no run"),
        (["a"], [], "expected: 2 to 8"),
        ([*"aaaaaaaaa"], [], "expected: 2 to 8"),
        (["a", "b"], ["--out=none/c.html"], "a folder that exists"),
        (["a", "b"], ["--out=c.png"], "expected: a .html"),
    ],
)
def test_mistakes_end_with_a_message(runs, more, words, tmp_path, monkeypatch, capsys):
    for name in "ab":
        write(tmp_path / name, [])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert compare.main([*runs, *more]) == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))
