"""Files of an export: none is left half written or wrong, none is replaced unasked, and what cannot be exported."""

import contextlib
import dataclasses
import re
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.interop import timm
from repre_jax.tools import export, figures
from tests.helpers.exporting import exported
from tests.helpers.saved import saved_run


def test_a_file_that_gives_other_features_is_not_left_behind(copy, capsys, monkeypatch):
    whole = timm.dump

    def broken(*arguments, **settings):
        arrays = whole(*arguments, **settings)
        return arrays | {"norm.weight": arrays["norm.weight"] * np.float32(1 + 1e-5)}

    monkeypatch.setattr(timm, "dump", broken)
    assert export.main([str(copy)]) == 1
    said = re.search(r"the largest relative difference is (\S+)\.\n", capsys.readouterr().err)
    assert float(said[1]) == pytest.approx(1e-5, rel=0.05)
    assert not (copy / "export").exists()


def test_features_that_are_not_finite_are_named(tmp_path, capsys):
    def broken(state):
        kernel = state.params["encoder"]["patch_embed"]["kernel"]
        kernel[0] = np.nan
        return dataclasses.replace(state)

    saved_run(tmp_path / "run", "moco_vit_s", change=broken)
    assert export.main([str(tmp_path / "run")]) == 1
    assert "features that are not finite.\n  change:   --step" in capsys.readouterr().err
    assert not (tmp_path / "run" / "export").exists()


def test_nothing_half_written_is_left(copy, capsys):
    """A limit on the size of files stands for a full disk."""
    exported(copy)
    before = {path: path.read_bytes() for path in (copy / "export").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert export.main([str(copy), "--force"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (copy / "export").iterdir()} == before


def test_a_file_is_replaced_only_when_asked(copy, capsys):
    file, _ = exported(copy)
    file.write_bytes(b"somebody's")
    assert export.main([str(copy)]) == 1
    assert "is there already.\n  change:   --force replaces it; or --output=FILE" in capsys.readouterr().err
    assert file.read_bytes() == b"somebody's"
    assert export.main([str(copy), f"--output={copy / 'other.safetensors'}"]) == 0
    assert export.main([str(copy), "--force"]) == 0
    assert file.read_bytes() == (copy / "other.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none"], "{tmp}/none is no run: it has no folder checkpoints."),
        (["{run}", "--step=7"], "has no checkpoint 7, or not any more.\n  expected: one of 8\n  change:   --step=..."),
        (["{run}", "--output={tmp}/a file/new/x.safetensors"], "{tmp}/a file/new cannot be written: Not a directory."),
        (["{run}", "--output={tmp}/x.npz"], "a file name ending in .safetensors"),
        (["{run}", "--format=npz", "--output={tmp}/x.pth"], "a file name ending in .npz"),
    ],
)
def test_what_cannot_be_exported(copy, tmp_path, capsys, arguments, message):
    (tmp_path / "a file").touch()
    assert export.main([argument.format(tmp=tmp_path, run=copy) for argument in arguments]) == 1
    assert message.format(tmp=tmp_path) in capsys.readouterr().err
    assert not (copy / "export").exists()


def test_folders_are_made_and_not_left_empty(copy, tmp_path, capsys):
    file = tmp_path / "new" / "deep" / "x.npz"
    assert export.main([str(copy), "--format=npz", f"--output={file}"]) == 0
    assert {path.name for path in file.parent.iterdir()} == {"x.npz", "x.npz.json"}
    with pytest.raises(UserError, match="stopped"), export._drafts(tmp_path / "other" / "deep") as drafts:
        assert drafts.parent == tmp_path / "other" / "deep"
        raise UserError("stopped")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("tool", [export._drafts, lambda folder: figures._writable([folder / "a.png"])])
@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
def test_what_was_made_for_nothing_is_removed(tmp_path, monkeypatch, tool, error):
    """Whenever an interrupt comes, and where the last of the folders cannot be written into."""
    folder, after = tmp_path / "other" / "deep", []

    def interrupted(call):
        def made(*arguments, **settings):
            made_so = call(*arguments, **settings)
            if len(after) == moment:
                raise error
            after.append(call)
            return made_so

        return made

    for moment in range(5):
        after.clear()
        with monkeypatch.context() as at:
            at.setattr(Path, "mkdir", interrupted(Path.mkdir))
            at.setattr(tempfile, "TemporaryFile", interrupted(tempfile.TemporaryFile))
            with contextlib.suppress(KeyboardInterrupt, UserError), tool(folder):
                assert moment == 4, "two folders, both at once, and a draft or a try"
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("argument", ["--format=onnx", "--network=both"])
def test_unknown_choices_are_answered_with_the_known_ones(copy, capsys, argument):
    with pytest.raises(SystemExit):
        export.main([str(copy), argument])
    assert "timm" in (message := capsys.readouterr().err)
    assert "invalid choice" in message


def test_a_branch_that_the_framework_does_not_have(tmp_path, capsys):
    saved_run(tmp_path / "run", "simclr_vit_s")
    assert export.main([str(tmp_path / "run"), "--network=target"]) == 1
    assert "simclr keeps no moving average.\n  change:   --network=online" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(copy, capsys):
    (copy / "checkpoints" / "8" / "record" / "metadata").write_text("{}")
    assert export.main([str(copy), "--step=8"]) == 1
    assert "Checkpoint 8 of" in (message := capsys.readouterr().err)
    assert "is damaged: its file record/metadata has 2 of" in message
    assert export.main([str(copy)]) == 1
    assert "There is no whole checkpoint" in (message := capsys.readouterr().err)
    assert "8: its file record/metadata has 2 of" in message
