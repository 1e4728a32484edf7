"""The paper's tables: which runs they take, which cells count, and what is said of few seeds."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from scipy import stats

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.reproduction import cells, paper, results, scales, statistics, tables, work, writing
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import Run
from repre_jax.tools import reproduce

SCENES, FULL = scales.SCALES["scenes"], scales.SCALES["full"]
RUN = Run("moco_vit_s", "scenes", 0, SCENES.flags)
SEEDS = range(3)
RESULT = {"steps": 8, "seconds": 2.5, "knn_top1": 0.25, "figure": "a.png", "data_set": {"classes": 20}}


def cell_of(run, **metrics):
    return Cell(run.name, "command", run.digest, run.seed, "0" * 40, "2026-12-01", "here", "1 x cpu", {}, 60.0, metrics)


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


def test_an_unset_key_of_a_later_version_changes_no_digest():
    assert "init_from" not in RUN.settings and None not in RUN.settings.values()


def test_a_cell_of_another_config_is_not_taken_and_named(tmp_path):
    cells.write(tmp_path, cell_of(RUN, knn_top1=0.5))
    assert work.look([RUN], tmp_path / "runs", tmp_path).cells[RUN].metrics == {"knn_top1": 0.5}
    cells.write(tmp_path, dataclasses.replace(cell_of(RUN, knn_top1=0.5), digest="before"))
    found = work.look([RUN], tmp_path / "runs", tmp_path)
    assert not found.cells and "another config" in found.changed[RUN]
    assert work.lacking([RUN], [], found, tmp_path / "runs") == [RUN]
    table = tables.table("table1", SCENES)
    assert any(RUN.name in line for line in writing.troubles(table, SEEDS, found))


def test_a_finished_folder_becomes_a_cell_unless_its_config_differs(tmp_path):
    folder = tmp_path / "runs" / RUN.name
    folder.mkdir(parents=True)
    run_files.write_json(folder / run_files.CONFIG, RUN.settings)
    run_files.write_json(folder / run_files.RESULT, RESULT)
    start = {"step": 0, "time": "2026-12-01T00:00:00+0000", "command": "c", "commit": None, "machine": "m"}
    run_files.write_rows(folder / run_files.STARTS, [start])
    run_files.make_folder(tmp_path / "runs" / cells.LOGS)
    run_files.write_json(cells.seconds_path(tmp_path / "runs", RUN), {cells.STARTS: [1.5, 2.0]})
    found = work.look([RUN], tmp_path / "runs", tmp_path)
    assert found.cells[RUN].metrics == {"steps": 8, "seconds": 2.5, "knn_top1": 0.25, "data_set.classes": 20}
    assert (found.cells[RUN].machine, found.cells[RUN].processor_seconds) == ("m", 3.5)
    assert cells.path_of(tmp_path, RUN).exists()
    other = dataclasses.replace(RUN, flags=("--config.optim.lr=0.5",))
    found = work.look([other], tmp_path / "runs", tmp_path / "elsewhere")
    assert not found.cells and "optim.lr" in found.changed[other]
    work.do([other], found, tmp_path / "runs", tmp_path / "elsewhere")  # main.py refuses the folder
    assert other in found.failed and not found.cells


def test_tables_share_runs():
    table1, table4, table5 = (
        set(tables.table(name, SCENES).in_order(SEEDS)) for name in ("table1", "table4", "table5")
    )
    assert RUN in table1 & table4 & table5
    assert not any(run in table1 for run in table4 if "swin" in run.config)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_full_scale_has_a_command_for_every_cell_of_the_paper(name):
    table = tables.table(name, FULL)
    for row in table.rows:
        (first, *_) = table.runs(row, 0)
        for run in first.lineage():
            assert run.settings["seed"] == 0  # main.py would take the command
    figures = [figure for row in table.rows for figure in row.paper if figure is not None]
    expected = {
        "table1": [figure for cell in paper.TABLE1 for figure in (cell.without, cell.repre)],
        "table2": [figure for cell in paper.TABLE2 for pair in (cell.without, cell.repre) if pair for figure in pair],
        "table3": [figure for pair in paper.TABLE3.values() for figure in pair],
        "table4": [figure for cell in paper.TABLE4.values() for figure in cell],
        "table5": [figure for cell in paper.TABLE5.values() for figure in cell],
    }.get(name, figures)
    assert figures and sorted(figures) == sorted(expected)


def test_a_job_list_prints_parents_first_and_writes_nothing(tmp_path, capsys):
    arguments = ["table4", "--scale", "full", "--seeds", "1", "--print-commands", "--workdir", str(tmp_path / "w")]
    assert reproduce.main([*arguments, "--results", str(tmp_path / "r")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 12 and not list(tmp_path.iterdir())
    folders = [re.search(r"--workdir (\S+)", line)[1] for line in lines]
    sources = [re.search(r"init_from=(\S+)", line) for line in lines]
    for place, source in enumerate(sources):
        assert source is None or source[1] in folders[:place]


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
    found.cells = {run: cell for run, cell in found.cells.items() if "byol" not in run.name}
    writing.write(tmp_path, table, SEEDS, found, [])
    assert (tmp_path / "figure3.png").stat().st_size > 10_000


def test_the_table_of_what_is_there(tmp_path, capsys):
    cells.write(tmp_path, cell_of(RUN, knn_top1=0.5))
    arguments = ["table1", "--no-run", "--results", str(tmp_path), "--workdir", str(tmp_path / "none")]
    assert reproduce.main(arguments) == 0
    assert "| MoCo v3 | ViT-S | yes | 50.0 (1) |" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


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
