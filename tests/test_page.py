"""The report page of a run: what it holds, not how it looks."""

import base64
import io
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from repre_jax.core import run_files
from repre_jax.frameworks.base import NARROW
from repre_jax.report import page, pictures
from repre_jax.report.run import read
from tests.helpers.logged import CONFIG, RESULT, START, curves, rows, write


class Reader(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._style = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False
        self.text += " " if tag in ("td", "th", "p", "dd", "dt", "li", "span", "b") else ""

    def handle_data(self, data):
        self.text += "" if self._style else data


def read_page(run):
    return Reader(page.write(run).read_text())


def finite(lines, name):
    return [row["step"] for row in lines if row.get(name) is not None]


def test_every_metric_has_its_curve_with_each_of_its_finite_values(tmp_path):
    run = write(tmp_path / "run", [*rows(), {"step": 2050, "new": 3.0}, {"step": 2100, "new": 4.0}])
    lines = run_files.read_metrics(run / "metrics.jsonl")
    names = {name for row in lines for name in row} - {"step"}
    drawn = curves(page.write(run).read_text())
    assert drawn.keys() == names
    assert {name: len(drawn[name]) for name in names} == {name: len(finite(lines, name)) for name in names}


@pytest.mark.parametrize(("name", "scale"), [("loss", lambda y: y), ("gradient_norm", math.log), ("knn_top1", abs)])
def test_curves_stand_where_their_values_say(name, scale, tmp_path):
    points = np.array(curves(page.write(write(tmp_path / "run")).read_text())[name])
    values = [(row["step"], scale(row[name])) for row in rows() if row.get(name) is not None]
    for drawn, true, upwards in zip(points.T, np.array(values).T, (False, True), strict=True):
        slope, offset = np.polyfit(true, drawn, 1)
        np.testing.assert_allclose(slope * true + offset, drawn, atol=0.02)
        assert (slope < 0) == upwards, "y counts from the top"


def test_a_value_between_gaps_is_seen(tmp_path):
    """As a dot, since a line needs two points; the gaps are none of the curve."""
    lines = [{"step": step, "loss": 1.0 if step % 2 else None} for step in range(100)]
    text = page.write(write(tmp_path / "run", lines)).read_text()
    group = re.search(r'<g id="curve-loss">(.*?)</g></g>', text)[1]
    assert group.count("<use ") == 50
    assert "L" not in re.search(r' d="([^"]*)"', group)[1]


def test_long_runs_stay_small_and_keep_their_extremes(tmp_path):
    lines = [{"step": i, "loss": math.sin(i) + (9 if i == 2500 else 0)} for i in range(1, 5001)]
    text = page.write(write(tmp_path / "run", lines)).read_text()
    _, y = np.array(curves(text)["loss"]).T
    assert 300 < len(y) < 4000
    assert y.min() < 25
    assert np.sort(y)[1] > 100, "one value stands out"


def test_whatever_texts_hold_they_are_no_html(tmp_path):
    evil = "</style><script>alert(1)</script>"
    run = tmp_path / "<b>&\"'<i>"
    starts = [START | {"command": f"python main.py {evil}", "devices": evil, "versions": {evil: evil}}]
    lines = [{"step": 1, '<img src=x>"': 2.0, "loss": 1.0}]
    write(run, lines, {"data": {"name": evil}, evil: "'\"&amp;"}, starts, RESULT | {evil: evil, "figure": evil})
    found = read_page(run)
    assert not {"script", "i"} & set(found.tags)
    assert found.tags.count("style") == 1
    assert found.text.count(evil) >= 7
    for words in (str(run), "'\"&amp;", '<img src=x>"', f"python main.py {evil}"):
        assert words in found.text
    assert ("g", {"id": 'curve-<img src=x>"'}) in found.attributes
    assert (run / "report.html").read_bytes().isascii()


def test_names_that_no_encoding_knows(tmp_path):
    run = write(tmp_path / "\udcff\u2603", result=RESULT | {"\u221a": "\udcff"})
    assert "\u2603" in read_page(run).text


def test_a_page_is_replaced_in_one_go(tmp_path, monkeypatch):
    run = write(tmp_path / "run")
    before = page.write(run).read_text()
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.jsonl", "starts.jsonl", "report.html"}

    def full(file):
        file.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_files, "to_disk", full)
    with pytest.raises(OSError, match="No space"):
        page.write(run)
    assert (run / "report.html").read_text() == before


def test_an_unfinished_run_says_how_far_it_is_and_is_read_again(tmp_path):
    run = write(tmp_path / "run", rows(20), starts=[START, START | {"step": 400}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1050, "lo')
    found = read_page(run)
    left = 1000 * 64 / read(run).newest("images_per_second")
    for words in ("Not finished", "step 1,000 of 2,000", f"1:{left - 60:02.0f} left", "started again from step 400"):
        assert words in found.text
    assert "goes on from the newest whole checkpoint" in found.text
    drawn = page.write(run).read_text()
    assert drawn.count("stroke: var(--mark)") == drawn.count('class="panel"') > 5
    assert ("meta", {"http-equiv": "refresh", "content": str(page.REFRESH)}) in found.attributes
    assert dict(found.attributes)["progress"] == {"max": "2000", "value": "1000", "aria-label": "Progress"}


def test_a_stopped_run_says_what_was_saved_between_two_lines_of_its_log(tmp_path):
    run = write(tmp_path / "run", rows(20), starts=[START, START | {"step": 1013}])
    for step in (900, 1013, 1500):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    for step in (900, 1013, 1700):
        (run / "checkpoints" / f"{step}.manifest.json").write_text("{}")
    found = Reader(page.write(run, stopped=True).read_text())
    text = " ".join(found.text.split())
    assert "Stopped step 1,013 of 2,000" in text
    assert "Steps 1,013" in text
    assert dict(found.attributes)["progress"]["value"] == "1013"
    assert "started again" not in text, "where there is no curve yet"


def test_a_finished_run_says_its_results(tmp_path):
    run = write(tmp_path / "run", result=RESULT)
    found = read_page(run)
    for words in (
        "MoCo v3 with RePre, ViT-S, digits",
        "Finished step 2,000 of 2,000",
        "k-NN top-1 95.3% untrained encoder 65.8%, raw pixels 94.4%",
        "Reconstruction L1 0.0041 each image's mean colour 0.2845",
        "Steps 2,000 in 3:55",
        "optim.lr 0.012",
        "data.image_size [16, 16]",
        START["command"],
        "2026-11-24 02:00:00+0000",
        "jax 0.10.2",
    ):
        assert words in " ".join(found.text.split())
    assert "http-equiv" not in str(found.attributes)
    assert not any(value.startswith(("http", "//")) for _, pairs in found.attributes for value in pairs.values())


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (
            {"name": "vit_s", "width": 64, "depth": [4]},
            "with RePre from the last feature alone, ViT (width 64, 4 blocks)",
        ),
        ({"name": "swin_t", "width": None, "depth": [1, 2, 1]}, "feature alone, Swin (1-2-1 blocks), digits"),
        ({"name": "vit_ti"}, "feature alone, ViT-Ti, digits"),
    ],
)
def test_an_encoder_of_sizes_of_its_own_is_not_called_by_anothers(tmp_path, encoder, said):
    run = write(tmp_path / "run", config={"encoder": encoder, "repre": {"enabled": True, "single": True}})
    assert said in " ".join(read_page(run).text.split())


def test_what_curves_are_compared_with_stands_beside_them(tmp_path):
    text = " ".join(read_page(write(tmp_path / "run", result=RESULT)).text.split())
    assert f"collapse, below {NARROW * 0.125:.4g}" in text
    assert "raw pixels 94.4%" in text
    assert "untrained encoder 65.8%" in text


def test_what_stayed_zero_is_folded_away(tmp_path):
    """Its curves are still in the page; what is not 0 once is shown."""
    lines = [row | {"skipped_in_a_row": 0.0, "new": float(row["step"] == 100)} for row in rows(20)]
    lines[3] |= {"skipped_in_a_row": None}
    text = page.write(write(tmp_path / "run", lines)).read_text()
    (folded,) = re.findall(r'<details class="folded"><summary>2 that stayed 0</summary>(.*?)</details>', text)
    assert sorted(curves(folded)) == ["skipped_in_a_row", "unreadable"]
    assert {"momentum", "new", "skipped"} <= curves(text.replace(folded, "")).keys()
    text = page.write(write(tmp_path / "run", [{"step": 1, "unreadable": 0.0}])).read_text()
    assert 'Further measurements</h2><details class="folded"><summary>1 that stayed 0' in text


def test_a_classifier_is_reported_too(tmp_path):
    config = {"task": "linear", "framework": {}, "repre": {}}
    origin = {"framework": "dino", "branch": "target", "step": 9}
    lines = [{"step": i, "top1": i / 100, "held_out_top1": i / 90, "loss": 1.0} for i in range(50)]
    result = {"task": "linear", "origin": origin, "steps": 49, "seconds": 3.0, "top1": 0.947, "top1_untrained": 0.744}
    run = write(tmp_path / "linear", lines, config, result=result)
    text = " ".join(read_page(run).text.split())
    assert "Linear probe of DINO, ViT-S, digits" in text
    assert "Top-1 94.7% untrained encoder 74.4%" in text
    (run / "result.json").unlink()
    text = " ".join(read_page(run).text.split())
    assert "Top-1 49.0%" in text
    assert "k-NN" not in text


def test_a_diverged_run_says_so(tmp_path):
    bad = {"loss": None, "reconstruction": None, "skipped_in_a_row": 50.0, "first_bad_step": 151.0}
    lines = [{"step": 150, "loss": 1.5, "skipped_in_a_row": 0.0, "first_bad_step": 0.0}, {"step": 200, **bad}]
    text = " ".join(read_page(write(tmp_path / "run", lines)).text.split())
    assert "The last 50 steps were skipped: loss or gradient not finite from step 151 on." in text
    assert "1.5 at 150, then not finite" in text
    assert "Logged, but never finite: reconstruction." in text


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "starts.jsonl", "result.json"])
@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"step": 1, ', b"\xff\xfe{", b'{"step": {}, "steps": []}'])
def test_half_written_and_missing_files_are_left_out(name, content, tmp_path):
    run = write(tmp_path / "run", [{"step": 1, "loss": 1.0}], result=RESULT)
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    text = read_page(run).text
    assert ("with RePre" in text) == (name != "config.json")


def test_a_config_of_other_types(tmp_path):
    odd = {"framework": {"name": ["x"]}, "task": [1], "encoder": {"name": {}}, "batch_size": "x", "total_steps": {}}
    assert "['x'] with RePre, digits" in read_page(write(tmp_path / "run", rows(2), odd)).text
    assert "RePre, digits" in read_page(write(tmp_path / "run", rows(2), odd | {"framework": {}})).text


def test_an_empty_folder_has_a_page(tmp_path):
    assert "Nothing was logged yet." in read_page(tmp_path).text


def test_numbers_that_no_axis_can_show(tmp_path):
    odd = [1e308, -1e308, "x", [1], {"a": 1}, True, 10**400, math.inf, math.nan]
    lines = [{"step": step, "loss": value, "lr": 1e308, "wait_share": [1]} for step, value in enumerate(odd)]
    run = write(tmp_path / "run", [*lines, {"step": "x"}])
    assert len(curves(page.write(run).read_text())["loss"]) == 1
    assert "Logged, but never finite: lr, wait_share." in read_page(run).text


def test_the_newest_figure_of_each_kind_is_embedded(tmp_path, monkeypatch):
    run = write(tmp_path / "run")
    (run / "figures").mkdir()
    names = ("tsne", "figures/tsne", "figures/attention", "other-2", "figures/other-3", "figures/attention-and-b-and-c")
    for number, name in enumerate(names):
        path = run / f"{name}.png"
        Image.new("RGB", (4, 3), (number, 0, 0)).save(path)
        os.utime(path, (1000 + number, 1000 + number))
    (run / "figures" / "pyramid.png").write_bytes((run / "other-2.png").read_bytes()[:-20])
    Image.new("RGB", (4, 3)).save(run / "reconstructions.png")
    images = {pairs["alt"]: pairs["src"] for tag, pairs in read_page(run).attributes if tag == "img"}
    assert list(images) == [
        "Reconstructions, from reconstructions.png",
        "Attention, from figures/attention.png",
        "Attention, beside b and c, from figures/attention-and-b-and-c.png",
        "t-SNE, from figures/tsne.png",
        "other-2, from other-2.png",
        "other-3, from figures/other-3.png",
    ]
    embedded = base64.b64decode(images["Attention, from figures/attention.png"].removeprefix("data:image/png;base64,"))
    assert embedded == (run / "figures" / "attention.png").read_bytes()
    monkeypatch.setattr(pictures, "BUDGET", 10)
    found = read_page(run)
    assert "img" not in found.tags
    assert ("a", {"href": "figures/attention.png"}) in found.attributes


def embedded(run):
    """Figures of a page: the name of the file -> (its attributes, what is shown of it)."""
    images = [pairs for tag, pairs in read_page(run).attributes if tag == "img"]
    return {
        pairs["alt"].split(", from ")[1]: (pairs, Image.open(io.BytesIO(base64.b64decode(pairs["src"].split(",")[1]))))
        for pairs in images
    }


def noise(width, height, channels=3):
    """Which no format makes small."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def test_of_a_large_figure_the_page_holds_a_copy(tmp_path):
    run = write(tmp_path / "run")
    noise(1700, 340).save(run / "attention.png", dpi=(150, 150))
    clear = noise(400, 400, 4)
    clear.putalpha(Image.new("L", clear.size, 0))
    clear.save(run / "tsne.png")
    Image.new("RGB", (300, 200), "navy").save(run / "other.png", dpi=(150, 150))
    found = embedded(run)
    pairs, copy = found["attention.png"]
    assert (copy.format, copy.size, pairs["width"], pairs["height"]) == ("JPEG", (1600, 320), "1088", "218")
    assert len(pairs["src"]) < 0.75 * (run / "attention.png").stat().st_size
    assert np.asarray(found["tsne.png"][1]).min() > 250, "what is clear lies on white"
    pairs, copy = found["other.png"]
    assert (copy.format, copy.size, pairs["width"], pairs["height"]) == ("PNG", (300, 200), "192", "128")
    assert ("a", {"href": "attention.png"}) in read_page(run).attributes


def test_the_room_goes_to_the_first_kinds_however_old(tmp_path, monkeypatch):
    run = write(tmp_path / "run")
    for number, name in enumerate(("reconstructions", "attention", "tsne", "other")):
        noise(60, 60).save(run / f"{name}.png")
        os.utime(run / f"{name}.png", (1000 + number, 1000 + number))
    monkeypatch.setattr(pictures, "BUDGET", 2.5 * (run / "tsne.png").stat().st_size)
    assert list(embedded(run)) == ["reconstructions.png", "attention.png"]


def test_all_of_the_config_and_the_result_is_there(tmp_path):
    text = read_page(write(tmp_path / "run", result=RESULT)).text
    for key, value in (run_files.flat(CONFIG) | run_files.flat(json.loads(json.dumps(RESULT)))).items():
        assert f"{key} {value}" in text
