"""Checkpoints below paths that orbax takes for patterns and tensorstore for other folders."""

import os
import subprocess
import sys
import tempfile

import chex
import jax
import jax.numpy as jnp
import pytest

from repre_jax.core import manifest, plain_paths
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError

AWKWARD = ("lr=[0.1]", "back\\slash", "a*b", "a?b", "{x,y}", "**", "[!a]", "not utf-8 \udcff")


def tree(number):
    return {"params": {"w": jnp.arange(6.0) + number}, "target": {}}


def save(directory, *numbers):
    """Checkpoints of these numbers, each with tree(number)."""
    checkpoints = Checkpoints(directory)
    checkpoints.make_room([])
    for number in numbers:
        checkpoints.save(number, tree(number), {"number": number})
    checkpoints.close()
    return checkpoints


def restored(directory, number):
    checkpoints, wanted = Checkpoints(directory), {"params": tree(0)["params"]}
    places = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), wanted)
    try:
        return checkpoints.record(number), checkpoints.restore_part(number, wanted, places)
    finally:
        checkpoints.close()


@pytest.mark.parametrize("name", AWKWARD)
def test_a_checkpoint_comes_back_from_below_any_path(tmp_path, name, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    place = tmp_path / name / "run" / "checkpoints"
    assert save(place, 1, 2).error is None
    assert Checkpoints(place).newest_whole() == (2, [])
    record, state = restored(place, 2)
    assert record == {"number": 2}
    chex.assert_trees_all_equal(state, {"params": tree(2)["params"]})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "temporary"])  # no 'back' with a 'slash'
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_pattern_does_not_meet_its_neighbours(tmp_path):
    save(tmp_path / "axb", 1)
    save(tmp_path / "a?b", 2)
    save(tmp_path / "a*b", 3)
    for name, number in (("axb", 1), ("a?b", 2), ("a*b", 3)):
        assert list(Checkpoints(tmp_path / name).measures()) == [number]
        chex.assert_trees_all_equal(restored(tmp_path / name, number)[1], {"params": tree(number)["params"]})


def test_what_cannot_be_opened_again_gets_no_manifest(tmp_path, monkeypatch):
    """As orbax writes where it is given such a path itself: without its index of all arrays, and without an error."""
    monkeypatch.setattr(plain_paths, "UNFIT", frozenset())
    place = tmp_path / "lr=[0.1]"
    checkpoints = save(place, 1)
    assert "Checkpoint 1 could not be written to" in str(checkpoints.error)
    assert "kept:     none" in str(checkpoints.error)
    assert (place / "1").is_dir()
    assert not manifest.path_of(place / "1").exists()
    assert Checkpoints(place).newest_whole()[0] is None


def test_a_manifest_of_what_cannot_be_opened_is_not_believed(tmp_path, monkeypatch):
    """Versions before this one wrote it."""
    place = tmp_path / "lr=[0.1]"
    save(place, 1)
    with monkeypatch.context() as before:
        before.setattr(plain_paths, "UNFIT", frozenset())
        save(place, 2)
    manifest.write(place / "2", step=2, measure=None)
    step, ignored = Checkpoints(place).newest_whole()
    assert step == 1
    assert [(item.folder.name, item.why.split(",")[0]) for item in ignored] == [("2", "its arrays cannot be found")]


def test_no_place_for_a_link_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "also [odd]"))
    monkeypatch.setattr(plain_paths, "TEMPORARY", (str(tmp_path / "not there"),))
    with pytest.raises(UserError, match=r"(?s)cannot be kept below a path.*given:.*lr=\[0.1\].*TMPDIR"):
        Checkpoints(tmp_path / "lr=[0.1]").make_room([])
    Checkpoints(tmp_path / "plain").make_room([])


def test_the_link_of_a_process_that_was_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    """Not that of one that lives, nor what others have put there, nor what the link leads to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary" / "repre_jax-others").mkdir(parents=True)
    run = tmp_path / "lr=[0.1]"
    run.mkdir()
    (run / "file").write_text("kept")
    ours, unlink = plain_paths.plainly_named(run)
    assert ours.joinpath("file").read_text() == "kept"
    program = (
        "import os, pathlib, sys; from repre_jax.core import plain_paths\n"
        "plain_paths.plainly_named(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"TMPDIR": tempfile.gettempdir()}
    assert subprocess.run([sys.executable, "-c", program, run], env=environment, check=False).returncode == -9
    left = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert len(left) == 3, "that of the dead process"
    next_one, unlink_next = plain_paths.plainly_named(run)
    there = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert there == {"repre_jax-others", ours.parent.name, next_one.parent.name}
    unlink()
    unlink_next()
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["repre_jax-others"]
    assert (run / "file").read_text() == "kept"
