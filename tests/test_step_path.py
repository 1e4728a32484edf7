"""docs/step.md lists the files of one training step: those on the way from main.py to the losses, and what they call."""

import re
import sys
from pathlib import Path

import main
from repre_jax.core.errors import UserError
from repre_jax.train.pretrain import Pretraining
from tests.helpers.runs import ROOT, TINY

MOST_FILES, MOST_LINES = 12, 1200
ENDS = ("repre_jax/losses/", "repre_jax/train/update.py")  # where a way through the step ends


def traced(monkeypatch, workdir):
    """(files on the stacks from main.py to a loss or the update, all files that the step enters), of one tiny step."""
    path, entered = set(), set()
    step = Pretraining.train_step

    def file_of(frame):
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(ROOT) or file.is_relative_to(ROOT / "tests") or ".venv" in file.parts:
            return None
        return str(file.relative_to(ROOT))

    def profile(frame, event, argument):
        if event != "call" or (file := file_of(frame)) is None:
            return
        entered.add(file)
        while file and file.startswith(ENDS) and frame:
            path.add(file_of(frame))
            frame = frame.f_back

    def watched(self, state, batch):
        sys.setprofile(profile)
        try:
            step(self, state, batch)
        finally:
            sys.setprofile(None)
        raise UserError("Traced.")  # nothing is compiled

    monkeypatch.setattr(Pretraining, "train_step", watched)
    monkeypatch.chdir(ROOT)
    small = ["--config.encoder.depth=(2,)", "--config.encoder.pyramid_levels=2", "--config.knn.test_records=16"]
    arguments = [*TINY, *small, "--config.knn.train_records=16", f"--workdir={workdir}"]
    assert main.main(arguments) == 1
    return path - {None}, entered


def listed(heading):
    section = (ROOT / "docs" / "step.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^- `([^`]+)`", section, re.MULTILINE)


def test_the_documents_list_is_the_step(monkeypatch, tmp_path, capsys):
    path, entered = traced(monkeypatch, tmp_path)
    assert "Traced." in capsys.readouterr().err
    way, calls = listed("The path"), listed("What it calls")
    assert set(way) == path
    assert set(calls) == entered - path
    assert len(way) == len(set(way)) <= MOST_FILES
    lines = sum(len((ROOT / file).read_text().splitlines()) for file in way)
    assert lines <= MOST_LINES
