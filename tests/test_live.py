"""What a run shows of itself while it goes on: its page and its newest reconstructions."""

import itertools
import re
import shutil

import chex

from repre_jax.report import live, page
from repre_jax.report.figures import sheet
from repre_jax.tasks import pretrain
from tests.helpers.runs import final_state, run


def test_a_run_leaves_its_page_and_names_it(finished, tmp_path, capsys):
    workdir, _ = finished
    assert ">Finished<" in (workdir / "report.html").read_text()
    again = shutil.copytree(workdir, tmp_path / "again")
    (again / "report.html").unlink()  # as of a run from before there were pages
    run(again)
    assert ">Finished<" in (again / "report.html").read_text()
    assert capsys.readouterr().out.endswith(f"Report: {tmp_path / 'again' / 'report.html'}\n")


def test_a_run_draws_and_writes_its_page_while_it_trains(finished, tmp_path, monkeypatch):
    """Reconstructions whenever k-NN is measured; and it ends as another run with the same seed has ended."""
    drawn, save = [], sheet.save
    monkeypatch.setattr(pretrain.sheet, "save", lambda figure, path: (drawn.append(path.name), save(figure, path)))
    seen, write = [], page.write
    monkeypatch.setattr(live, "SHARE", 1e9)
    monkeypatch.setattr(page, "write", lambda run, **how: (write(run, **how), seen.append(written(run)))[0])
    run(tmp_path / "run")
    assert drawn == [*["reconstructions.png"] * 3, "reconstructions.png", "reconstructions.pdf"]  # 0, 4, 8; the end
    assert seen == [*(f"Not finished, step {step}" for step in (0, 2, 4, 6, 8)), "Finished, step 8"]
    chex.assert_trees_all_equal(final_state(tmp_path / "run"), final_state(finished[0]))


def written(folder):
    text = (folder / "report.html").read_text()
    return re.search(r">(Finished|Not finished|Stopped)<", text)[1] + ", " + re.search(r"step \d+", text)[0]


def test_the_page_is_written_seldom(finished, tmp_path, monkeypatch):
    """A hundred times as long as it took, none is written; then one is."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    now, written = [1000.0], []
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])

    def write(run, stopped):
        now[0] += 2.0
        written.append(now[0])
        return page.write(run, stopped=stopped)

    monkeypatch.setattr(live, "page", type("Page", (), {"write": staticmethod(write)}))
    following = live.LivePage(folder, write=True)
    for _ in range(500):
        now[0] += 1.0
        following.follow()
    assert len(written) == 3
    assert min(b - a for a, b in itertools.pairwise(written)) >= 200


def test_a_page_that_cannot_be_written_is_said_once_and_tried_again(tmp_path, capsys):
    folder = tmp_path / "run"
    following = live.LivePage(folder, write=True)
    following.follow()
    following.write()
    said = capsys.readouterr().out
    assert said.count("Warning: report.html cannot be written: FileNotFoundError") == 1
    folder.mkdir()
    following.write()
    assert (folder / "report.html").exists()


def test_other_processes_write_no_page(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "report.html").unlink()
    live.LivePage(folder, write=False).write()
    assert not (folder / "report.html").exists()
