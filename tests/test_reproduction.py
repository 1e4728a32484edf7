"""The paper's tables: which runs they take, which cells count, and what is said of few seeds."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from repre_jax.builders import methods
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.models.detection import necks
from repre_jax.reproduction import cells, finished, paper, results, scales, statistics, tables, work, writing
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import Run
from repre_jax.system import command_line
from repre_jax.tools import reproduce

SCENES, FULL = scales.SCALES["scenes"], scales.SCALES["full"]
RUN = Run("moco_vit_s", "scenes", 0, SCENES.flags)
SEEDS = range(3)
RESULT = {"steps": 8, "seconds": 2.5, "knn_top1": 0.25, "figure": "a.png", "data_set": {"classes": 20}}


def cell_of(run, **metrics):
    settings = [each.settings for each in run.lineage()]
    about = {"commit": "0" * 40, "date": "2026-12-01", "machine": "here", "devices": "1 x cpu", "versions": {}}
    data = {"name": "scenes/objects", "version": "3.0.0"}
    return Cell(
        name=run.name, command="command", settings=settings, digest=run.digest, seed=run.seed, data_set=data,
        weights=None, processor_seconds=60.0, metrics=metrics, **about,
    )  # fmt: skip


def finish(run, workdir, result=RESULT, minute=0, **changes):
    """A finished run's folder, as main.py leaves it; changes: of its config."""
    folder = workdir / run.name
    folder.mkdir(parents=True, exist_ok=True)
    run_files.write_json(folder / run_files.CONFIG, run.settings | changes)
    run_files.write_json(folder / run_files.RESULT, result)
    time = f"2026-12-01T00:{minute:02}:00+0000"
    start = {"step": 0, "time": time, "command": run.command(workdir, "python main.py"), "commit": None, "machine": "m"}
    run_files.write_rows(folder / run_files.STARTS, [start])


def known(table, value):
    """A cell for each run, of value(run)."""
    return {
        run: cell_of(run, **{key: value(run) for measure in table.measures for key in (measure.key, measure.untrained)})
        for run in dict.fromkeys(table.in_order(SEEDS))
    }


def test_a_difference_is_that_of_scipys_paired_t_test():
    ours, theirs = {0: 1.0, 1: 2.5, 2: 2.0}, {0: 0.5, 1: 1.0, 2: 1.9, 3: 7.0}
    found = statistics.difference(ours, theirs)
    test = stats.ttest_rel([1.0, 2.5, 2.0], [0.5, 1.0, 1.9])
    np.testing.assert_allclose((found.low, found.high), test.confidence_interval(0.95))
    np.testing.assert_allclose(found.high - found.mean, 4.303 * stats.sem([0.5, 1.5, 0.1]), rtol=1e-3)
    assert (found.count, found.positive, found.negative) == (3, 3, 0)


def test_one_pair_has_no_interval_and_none_no_difference():
    one = statistics.difference({0: 1.0}, {0: 2.0})
    assert (one.mean, one.negative) == (-1.0, 1) and math.isnan(one.low)
    assert statistics.difference({0: 1.0}, {1: 2.0}) is None
    same = statistics.difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5})
    assert (same.low, same.high) == (0.5, 0.5)


def test_signs_are_scipys_binomial_test():
    found = statistics.signs([statistics.Difference(1, 0, 2, 6, 5, 1), statistics.Difference(1, 0, 2, 3, 2, 0)])
    assert (found.positive, found.negative) == (7, 1)
    np.testing.assert_allclose(found.p, stats.binomtest(7, 8).pvalue)


def test_a_digest_is_of_what_a_result_depends_on():
    same = dataclasses.replace(RUN, flags=("--config.log_every=7", "--config.knn.times=1", "--config.data.workers=3"))
    assert same.digest == RUN.digest
    for other in (
        dataclasses.replace(RUN, seed=1),
        dataclasses.replace(RUN, flags=("--config.optim.lr=0.5",)),
        dataclasses.replace(RUN, variants="scenes,baseline"),
    ):
        assert other.digest != RUN.digest
        probe, others = (Run("linear", "scenes,cached", 0, parent=run) for run in (RUN, other))
        assert probe.digest != others.digest


def test_an_unset_key_of_a_later_version_changes_no_digest(monkeypatch):
    parse, before = command_line.parse, RUN.digest

    def with_one_more(argv):
        config, workdir = parse(argv)
        with config.unlocked():
            config.later = None
        return config, workdir

    monkeypatch.setattr(command_line, "parse", with_one_more)
    again = dataclasses.replace(RUN)
    assert "later" not in again.settings and again.digest == before


def test_a_cell_of_another_config_is_not_taken_and_named(tmp_path):
    cells.write(tmp_path, cell_of(RUN, knn_top1=0.5))
    assert work.look([RUN], tmp_path / "runs", tmp_path).cells[RUN].metrics == {"knn_top1": 0.5}
    other = dataclasses.replace(RUN, flags=("--config.optim.lr=0.5",))
    cells.write(tmp_path, cell_of(other, knn_top1=0.5))
    found = work.look([RUN], tmp_path / "runs", tmp_path)
    assert not found.cells and found.refused[RUN].endswith("is of another config, and is not taken: optim.lr")
    assert work.lacking([RUN], [], found, tmp_path / "runs") == [RUN]
    assert any(RUN.name in line for line in writing.troubles(tables.table("table1", SCENES), SEEDS, found))


@pytest.mark.parametrize("text", ["", "{", "[]", "cut", "nan"])
def test_a_damaged_cell_is_named(text, tmp_path):
    cells.write(tmp_path, cell_of(RUN, knn_top1=0.5))
    path = cells.path_of(tmp_path, RUN)
    whole = path.read_text()
    path.write_text({"cut": whole[: len(whole) // 2], "nan": whole.replace("0.5\n", "NaN\n")}.get(text, text))
    found = work.look([RUN], tmp_path / "runs", tmp_path)
    assert not found.cells and found.refused[RUN] == f"cells/{path.name} is damaged, and is not taken"


def test_a_finished_folder_becomes_a_cell(tmp_path):
    runs = tmp_path / "runs"
    finish(RUN, runs)
    run_files.make_folder(runs / finished.LOGS)
    run_files.write_json(finished.seconds_path(RUN, runs), {finished.STARTS: [1.5, 2.0]})
    cell = work.look([RUN], runs, tmp_path).cells[RUN]
    assert cell.metrics == {"steps": 8, "seconds": 2.5, "knn_top1": 0.25, "data_set.classes": 20}
    assert str(tmp_path) not in cells.path_of(tmp_path, RUN).read_text()
    assert (cell.machine, cell.processor_seconds, cell.data_set) == ("m", 3.5, {"classes": 20})
    assert cells.read(tmp_path, RUN) == dataclasses.replace(cell, settings=[dict(each) for each in cell.settings])


def test_a_folder_of_another_config_is_not_taken(tmp_path):
    other = dataclasses.replace(RUN, flags=("--config.optim.lr=0.5",))
    finish(other, tmp_path)  # under the same name
    found = work.look([RUN], tmp_path, tmp_path)
    assert not found.cells and found.refused[RUN].endswith("is of another config: optim.lr, optim.lr")
    run_files.make_folder(tmp_path / finished.LOGS)
    work.do([RUN], found, tmp_path, tmp_path)  # main.py refuses the folder
    assert RUN in found.failed and not found.cells
    finish(RUN, tmp_path)
    (tmp_path / RUN.name / run_files.CONFIG).unlink()
    assert "config.json is missing" in work.look([RUN], tmp_path, tmp_path / "r").refused[RUN]


@pytest.mark.parametrize("flag", ["--config.repre.fixed_weights=(0.5,20)", "--config.total_steps=3"])
def test_a_folder_with_an_unset_key_set_by_hand_is_not_taken(flag, tmp_path):
    finish(dataclasses.replace(RUN, flags=(flag,)), tmp_path)
    assert finished.why_not(RUN, tmp_path).endswith(flag.split("=")[0].removeprefix("--config."))
    finish(dataclasses.replace(RUN, flags=("--config.log_every=3",)), tmp_path)
    assert finished.why_not(RUN, tmp_path) == ""


def test_an_evaluation_is_taken_only_with_the_pre_training_that_it_is_of(tmp_path):
    probe = Run("linear", "scenes,cached", 0, parent=RUN)
    finish(probe, tmp_path, minute=1)
    assert "is not there any more" in finished.why_not(probe, tmp_path)
    finish(RUN, tmp_path, minute=2)  # trained anew
    assert "is older than what it started from" in finished.why_not(probe, tmp_path)
    finish(probe, tmp_path, minute=3)
    assert finished.cell_of(probe, tmp_path).digest == probe.digest
    finish(RUN, tmp_path, minute=2, **{"optim.lr": 7.0})
    assert f"{RUN.name} in the workdir is of another config: optim.lr" in finished.why_not(probe, tmp_path)


def test_cells_of_other_data_are_named():
    table = tables.table("table1", SCENES)
    found = work.Found(known(table, lambda run: 0.5))
    assert writing.troubles(table, SEEDS, found) == []
    cell = found.cells[RUN]
    found.cells[RUN] = dataclasses.replace(cell, data_set=cell.data_set | {"version": "2.0.0"})
    (line,) = writing.troubles(table, SEEDS, found)
    assert "different data called scenes/objects" in line and RUN.name in line


def test_rows_that_share_a_baseline_count_once():
    for name, pairs in (("table4", 4), ("table5", 2), ("table2", 2), ("figure3", 9)):
        table = tables.table(name, SCENES)
        lines = results.numbers(table, SEEDS, known(table, lambda run: 0.5 + 0.1 * ("baseline" not in run.name)))
        assert results.signs(table, lines, 0)[""].positive == 3 * pairs
        counted = [row.without for row in table.rows if row.framework and row.without is not None]
        assert len(set(counted)) == len(counted)


def test_tables_share_runs():
    table1, table4, table5 = (
        set(tables.table(name, SCENES).in_order(SEEDS)) for name in ("table1", "table4", "table5")
    )
    assert RUN in table1 & table4 & table5
    assert not any(run in table1 for run in table4 if "swin" in run.config)


@pytest.mark.parametrize("scale", scales.SCALES.values(), ids=scales.SCALES)
def test_a_detector_can_read_the_encoders_of_table2(scale):
    sources = [next(run.lineage()) for run in tables.table("table2", scale).in_order(range(1))]
    for run in {run for run in sources if run.config != "finetune"}:  # which has the encoder of --config.encoder.name
        config, _ = command_line.parse(["main.py", *run.arguments(Path("runs"))])
        necks.build(methods.encoder_of(config), 16)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_full_scale_has_a_command_for_every_cell_of_the_paper(name):
    table = tables.table(name, FULL)
    for row in table.rows:
        for measure in table.measures:
            for run in table.run(row, measure, 0).lineage():
                assert run.settings["seed"] == 0  # main.py would take the command
    figures = [figure for row in table.rows for figure in row.paper if figure is not None]
    expected = {
        "table1": [figure for cell in paper.TABLE1 for figure in (cell.without, cell.repre)],
        "table2": [figure for cell in paper.TABLE2 for pair in (cell.without, cell.repre) if pair for figure in pair],
        "table3": [figure for pair in paper.TABLE3.values() for figure in pair],
        "table4": [figure for cell in paper.TABLE4.values() for figure in cell],
        "table5": [figure for cell in paper.TABLE5.values() for figure in cell],
    }.get(name, figures)
    assert (figures or name in ("ablation", "cost", "dense")) and sorted(figures) == sorted(expected)


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_job_list_goes_stage_by_stage_and_writes_nothing(name, tmp_path, capsys):
    arguments = [name, "--scale", "full", "--seeds", "1", "--print-commands", "--workdir", str(tmp_path / "w")]
    arguments += ["--results", str(tmp_path / "r")]
    assert reproduce.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    table = tables.table(name, FULL)
    cells_of_it = {run.name for run in table.in_order(range(1))}
    assert not list(tmp_path.iterdir())
    if name == "cost":
        assert len(lines) == len(cells_of_it) and all(line.endswith("result.json") for line in lines)
        return
    folders = [re.search(r"--workdir \S+/(\S+)", line)[1] for line in lines]
    assert len(set(folders)) == len(folders) and cells_of_it <= set(folders)
    sources = [re.search(r"init_from=\S+/(\S+)", line) for line in lines]
    stages = [folder.count("--") for folder in folders]
    assert stages == sorted(stages)
    for place, source in enumerate(sources):
        assert source is None or source[1] in folders[:place]
    assert reproduce.main([*arguments, "--stage", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == stages.count(0)


def test_a_table_shows_means_differences_and_what_is_missing(tmp_path):
    table = tables.table("table1", SCENES)
    found = work.Found(known(table, lambda run: 0.5 + 0.01 * ("baseline" not in run.name) + 0.001 * run.seed))
    lines = results.numbers(table, SEEDS, found.cells)
    without, repre = lines[0][0], lines[1][0]
    assert without.difference is None and repre.papers_difference == pytest.approx(0.7)
    assert repre.summary.mean == pytest.approx(51.1) and repre.difference.mean == pytest.approx(1.0)
    signs = results.signs(table, lines, 0)
    assert (signs[""].positive, signs["simclr"].positive) == (21, 3)
    paths = writing.write(tmp_path, table, SEEDS, found, [])
    text = paths[0].read_text()
    assert "| SimCLR | ViT-S | yes | 69.7 | +0.7 | 51.1 ± 0.1 (3) | +1.0 [+1.0, +1.0] | 3, 0 | 51.1 ± 0.1 (3) |" in text
    assert "not run" not in text and "<table>" in paths[2].read_text()
    assert json.loads(paths[1].read_text())["rows"][1]["measures"]["top-1, linear"]["paper"] == 69.7

    lacking = next(run for run in found.cells if run.config == "linear")
    failing = next(run for run in found.cells if run.config == "linear" and run.seed == 2)
    del found.cells[lacking], found.cells[failing]
    found.failed[failing] = tmp_path / "a.log"
    text = writing.write(tmp_path, table, SEEDS, found, ["figure was not drawn"])[0].read_text()
    assert "1 of 84 cells were not run." in text and "a.log" in text and "figure was not drawn" in text


def test_a_chart_is_drawn_of_figure3(tmp_path):
    table = tables.table("figure3", SCENES)
    found = work.Found(known(table, lambda run: 0.5 + 0.01 * ("baseline" not in run.name) * run.seed))
    found.cells = {run: cell for run, cell in found.cells.items() if "simclr" not in run.name}
    writing.write(tmp_path, table, SEEDS, found, [])
    assert (tmp_path / "figure3.png").stat().st_size > 10_000


def test_the_table_of_what_is_there(tmp_path, capsys):
    cells.write(tmp_path, cell_of(RUN, knn_top1=0.5))
    arguments = ["table1", "--no-run", "--results", str(tmp_path), "--workdir", str(tmp_path / "none")]
    assert reproduce.main(arguments) == 0
    assert "| MoCo v3 | ViT-S | yes | 50.0 (1) |" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_written_is_said_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert reproduce.main(["table1", "--workdir", str(tmp_path / "file"), "--results", str(tmp_path / "r")]) == 1
    assert "cannot be written: Not a directory.\n  change:   --workdir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table1", "--seeds", "0"], "--seeds is 0"),
        (["table1", "--only", "nothing"], "'nothing'"),
        (["table1", "--compare"], "0 of these 14 pre-trainings"),
    ],
)
def test_a_mistake_is_one_message(arguments, said, tmp_path, capsys):
    assert reproduce.main([*arguments, "--workdir", str(tmp_path / "w"), "--results", str(tmp_path / "r")]) == 1
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_name_that_no_table_has():
    with pytest.raises(UserError, match="There is no table"):
        tables.table("table9", SCENES)
