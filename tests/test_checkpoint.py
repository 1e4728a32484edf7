"""Checkpoints on disk: which are whole, which stay, and what a write that fails leaves."""

import errno
import json
import os
import resource
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import manifest
from repre_jax.core.checkpoint import Checkpoints, Keep
from repre_jax.core.errors import Ended, UserError
from repre_jax.core.types import TrainState


def state(number, width=300):
    zero = jnp.zeros((), jnp.int32)
    weights = np.random.default_rng(number).normal(size=(width, 70)).astype(np.float32)
    return TrainState(
        step=zero + number, rng=jax.random.PRNGKey(number), params={"encoder": {"w": jnp.asarray(weights)}}, target={},
        opt_state=(), framework_state={}, batch_stats={}, skipped=zero, skipped_in_a_row=zero, first_bad_step=zero,
    )  # fmt: skip


def here(tree):
    """The tree, and where each of its leaves is to go."""
    return tree, jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), tree)


def saved(directory, measures, keep=None):
    """Checkpoints 1, 2 ... with these measures; all stay unless told otherwise."""
    checkpoints = Checkpoints(directory, keep or Keep(newest=9))
    checkpoints.make_room([])
    for step, measure in enumerate(measures, start=1):
        checkpoints.save(step, state(step), {"name": f"of {step}"}, measure)
    checkpoints.wait()
    assert checkpoints.error is None
    return checkpoints


def test_what_is_saved_comes_back(tmp_path):
    checkpoints = saved(tmp_path / "new" / "folder", [None, None])
    assert checkpoints.newest_whole() == (2, [])
    assert checkpoints.record(1) == {"name": "of 1"}
    chex.assert_trees_all_equal(checkpoints.restore(2, *here(state(0))), state(2))
    part = checkpoints.restore_part(1, *here({"params": state(0).params}))
    chex.assert_trees_all_equal(part, {"params": state(1).params})


def test_another_shape_is_named(tmp_path):
    checkpoints = saved(tmp_path, [None])
    with pytest.raises(UserError, match=r"(?s)differ: 1\n  params/encoder/w: \(300, 70\) -> \(301, 70\)\n  change"):
        checkpoints.restore(1, *here(state(0, width=301)))


@pytest.mark.parametrize(
    ("keep", "steps"),
    [
        (Keep(newest=1), {6}),
        (Keep(newest=2), {5, 6}),
        (Keep(newest=1, every=2), {2, 4, 6}),
        (Keep(newest=1, best=True), {3, 6}),
        (Keep(newest=2, every=4, best=True), {3, 4, 5, 6}),
    ],
)
def test_which_checkpoints_stay(tmp_path, keep, steps):
    checkpoints = saved(tmp_path, [0.1, None, 0.9, 0.2, None, 0.3], keep)
    assert set(checkpoints.measures()) == steps
    assert {int(path.name) for path in tmp_path.iterdir() if path.is_dir()} == steps


def test_nothing_measured_is_no_best():
    assert Keep(newest=1, best=True).of({1: None, 2: None}) == {2}
    assert Keep(newest=3).of({}) == set()


def test_every_bit_counts(tmp_path):
    """One bit of any file, a cut, a missing file: the checkpoint is named and the one before it taken."""
    checkpoints = saved(tmp_path, [None, None])
    files = sorted(path for path in (tmp_path / "2").rglob("*") if path.is_file())
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        assert content
        for damaged in (bytes([content[0] ^ 1]) + content[1:], content[:-1], None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            step, ignored = checkpoints.newest_whole()
            assert (step, [item.folder.name for item in ignored]) == (1, ["2"]), path
            assert str(path.relative_to(tmp_path / "2")) in ignored[0].why
            path.write_bytes(content)
    assert checkpoints.newest_whole() == (2, [])


def test_a_manifest_cut_short_is_damage_and_none_is_unfinished(tmp_path):
    checkpoints = saved(tmp_path, [None, None, None])
    path = manifest.path_of(tmp_path / "3")
    path.write_text(path.read_text()[:-20])
    manifest.path_of(tmp_path / "2").unlink()
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "4_by_hand").mkdir()
    step, ignored = checkpoints.newest_whole()
    assert step == 1
    assert {item.folder.name: item.why for item in ignored} == {
        "2": "its writing was cut short",
        "3": "its manifest is damaged",
        "7.orbax-checkpoint-tmp": "its writing was cut short",
    }
    checkpoints.make_room(ignored)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1", "1.manifest.json", "2.damaged", "3.damaged", "4_by_hand"
    ]  # fmt: skip
    assert checkpoints.newest_whole() == (1, [])
    checkpoints.save(2, state(2), {})
    checkpoints.save(3, state(3), {})
    checkpoints.close()
    assert checkpoints.newest_whole() == (3, [])


def test_a_checkpoint_under_another_number_is_refused(tmp_path):
    checkpoints = saved(tmp_path, [None, None])
    (tmp_path / "2").rename(tmp_path / "7")
    manifest.path_of(tmp_path / "2").rename(manifest.path_of(tmp_path / "7"))
    step, ignored = checkpoints.newest_whole()
    assert step == 1
    assert ignored[0].why == "it was written as checkpoint 2"


PASSING = {
    "too many files": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "the same as a library's": ValueError(f"NOT_FOUND: {os.strerror(errno.EMFILE)} [type.googleapis.com]"),
    "a disk that errs": OSError(errno.EIO, os.strerror(errno.EIO)),
    "no permission": PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    "no memory": MemoryError(),
}


@pytest.mark.parametrize("why", PASSING)
def test_what_keeps_a_checkpoint_from_being_looked_at_is_no_fault_of_its(tmp_path, monkeypatch, why):
    """It would be set aside, and the run would begin anew."""
    checkpoints = saved(tmp_path, [None, None])

    def fails(_self, step):
        raise PASSING[why]

    with monkeypatch.context() as now:
        now.setattr(Checkpoints, "_saved_shapes", fails)
        with pytest.raises(type(PASSING[why])) as error:
            checkpoints.newest_whole()
        assert error.value is PASSING[why]
    assert checkpoints.newest_whole() == (2, [])


def test_a_signal_while_a_checkpoint_is_looked_at_is_no_fault_of_its(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, [None])

    def ended(self, step):
        raise Ended("SIGTERM: Interrupted.", 15)

    with monkeypatch.context() as now:
        now.setattr(Checkpoints, "_saved_shapes", ended)
        with pytest.raises(Ended):
            checkpoints.newest_whole()
    assert checkpoints.newest_whole() == (1, [])


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), NotADirectoryError(20, "no folder"), KeyError("w")])
def test_arrays_that_are_not_found_are_a_fault(tmp_path, monkeypatch, error):
    checkpoints = saved(tmp_path, [None, None])
    shapes = Checkpoints._saved_shapes

    def fails(self, step):
        if step == 2:
            raise error
        return shapes(self, step)

    monkeypatch.setattr(Checkpoints, "_saved_shapes", fails)
    step, ignored = checkpoints.newest_whole()
    assert (step, [item.folder.name for item in ignored]) == (1, ["2"])
    assert ignored[0].why.startswith("its arrays cannot be found, though its files are as they were written (")


def test_a_step_is_saved_once_and_its_measure_may_follow(tmp_path):
    checkpoints = saved(tmp_path, [None, 0.5])
    checkpoints.save(1, state(9), {"name": "other"}, 0.7)
    checkpoints.wait()
    assert checkpoints.record(1) == {"name": "of 1"}
    assert checkpoints.measures() == {1: 0.7, 2: 0.5}
    assert checkpoints.newest_whole() == (2, [])


@pytest.mark.parametrize("files", [20_000, 0])
def test_a_write_that_fails_is_told_and_harms_nothing(tmp_path, files):
    """Files of the process may not grow beyond a limit: a real error of the system, whoever runs the test."""
    checkpoints = saved(tmp_path, [None, None])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files, hard))
    try:
        checkpoints.save(3, state(3), {})
        checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"Checkpoint 3 could not be written to {tmp_path}: File too large." in str(checkpoints.error)
    assert "kept:     checkpoint 2;" in str(checkpoints.error)
    checkpoints.save(4, state(4), {})
    checkpoints.wait()
    assert set(checkpoints.measures()) == {1, 2}
    finished = [path.name for path in tmp_path.iterdir() if "orbax-checkpoint-tmp" not in path.name]
    assert sorted(finished) == ["1", "1.manifest.json", "2", "2.manifest.json"]
    checkpoints.close()  # as a run does before it ends: orbax's threads write on for a while after one has failed
    again = Checkpoints(tmp_path)
    step, ignored = again.newest_whole()
    assert step == 2
    again.make_room(ignored)
    again.save(3, state(3), {})
    again.close()
    assert again.newest_whole() == (3, [])


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be written: File exists"):
        Checkpoints(tmp_path / "file").make_room([])


def test_what_is_set_aside_does_not_pile_up(tmp_path):
    checkpoints = saved(tmp_path, [None, None, None])
    for step in (3, 2):
        manifest.path_of(tmp_path / str(step)).unlink()
        _, ignored = checkpoints.newest_whole()
        checkpoints.make_room(ignored)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".damaged")) == [f"{step}.damaged"]


def test_the_manifest_holds_every_file(tmp_path):
    saved(tmp_path, [0.25])
    content = json.loads((tmp_path / "1.manifest.json").read_text())
    folder = tmp_path / "1"
    assert set(content["files"]) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert (content["step"], content["measure"]) == (1, 0.25)
    assert manifest.size(folder) == sum(file["bytes"] for file in content["files"].values())
    shutil.rmtree(folder)
    assert Checkpoints(tmp_path).newest_whole() == (None, [])
