"""A test split that has changed since a run began: what only measures itself by it goes on."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest

import main
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.running import lifecycle, same_data
from repre_jax.running.recorder import Recorder
from repre_jax.running.resume import History
from repre_jax.running.signals import StopRequest
from repre_jax.tasks import pretrain
from tests.helpers.runs import TINY
from tests.test_identity import fill, opened, rename, trained


@pytest.fixture
def pets(tmp_path):
    return fill(tmp_path / "pets")


def test_pre_training_goes_on_with_another_test_split(pets):
    """It is only measured by it: other images, another number of them, or classes that train lacks."""
    past = trained(opened(pets))
    assert same_data.check(past, opened(pets), (), monitors=True) == same_data.monitored(past, opened(pets)) == []
    (pets / "val" / "bee" / "0.png").rename(pets / "val" / "cat" / "9.png")
    (pets / "val" / "bee" / "1.png").unlink()
    with pytest.raises(UserError, match=r"data\.test_content: other ones in bee, cat"):
        same_data.check(past, opened(pets), ())
    assert same_data.check(past, opened(pets), (), monitors=True) == []
    assert same_data.monitored(past, opened(pets)) == [
        "data.test_content: other ones in bee, cat", "data.test_records: 6 -> 5",
    ]  # fmt: skip
    (pets / "val" / "dog").mkdir()
    (pets / "val" / "ant" / "0.png").rename(pets / "val" / "dog" / "0.png")
    assert same_data.check(past, opened(pets), (), monitors=True) == []
    assert "data.classes: 3 -> None" in same_data.monitored(past, opened(pets))
    rename(pets, "ant", "wasp")
    with pytest.raises(UserError) as raised:
        same_data.check(past, opened(pets), (), monitors=True)
    assert "data.train_content: other ones in ant, wasp" in str(raised.value)
    assert "test_" not in str(raised.value)
    assert "data.classes: 3 -> None" in str(raised.value), "which may be train's doing"


def test_the_best_begins_anew_with_other_images(pets, tmp_path, capsys):
    """A measure of other images, or of another metric, compares with none of these; without it nothing is better."""
    before = trained(opened(pets))
    keys = [f"--config.data.name=folder:{pets}", "--config.checkpoint.keep=1", "--config.total_steps=9"]
    config, workdir = main.parse([*TINY, "--workdir", str(tmp_path / "w"), *keys])
    with lifecycle.begun(config, workdir) as session:
        training = pretrain._training(config, workdir, History())
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(training.fresh))

        def recorder(past, monitors=True):
            opened_again = dataclasses.replace(training, dataset=opened(pets), monitors=monitors)
            return contextlib.closing(Recorder(dataclasses.replace(session, past=past), opened_again, stop, 0))

        with StopRequest(training.mesh) as stop:
            with recorder(History()) as first:
                first.after(1, zeros, {"knn_top1": 0.9})
                first.save(2, zeros)
            with recorder(before) as same:
                same.after(3, zeros, {"knn_top1": 0.8})
                assert same.checkpoints.measures() == {1: 0.9, 2: None}
            assert "begins anew" not in capsys.readouterr().err
            (pets / "val" / "bee" / "1.png").unlink()
            with recorder(before, monitors=False) as judged:
                assert judged.checkpoints.measures() == {1: 0.9, 2: None}
            capsys.readouterr()
            with recorder(before) as other:
                assert other.checkpoints.measures() == {1: None, 2: None}
                assert "Note: the best checkpoint begins anew: step 1, the best" in "".join(capsys.readouterr())
                other.after(3, zeros, {"knn_top1": 0.2})
                other.after(4, zeros, {"knn_top1": 0.1})
            assert Checkpoints(workdir / "checkpoints").measures() == {3: 0.2, 4: 0.1}


def test_only_pre_training_does_and_says_so(pets, tmp_path, capsys):
    config, workdir = main.parse([*TINY, "--workdir", str(tmp_path / "w"), f"--config.data.name=folder:{pets}"])
    with lifecycle.begun(config, workdir) as session:
        past = trained(opened(pets))
        (pets / "val" / "bee" / "1.png").unlink()
        going_on = dataclasses.replace(session, past=past)
        capsys.readouterr()
        going_on.announce(opened(pets), [], monitors=True)
        said = "Note: from here on the run measures itself by other images than before: data.test_records: 6 -> 5"
        assert said in capsys.readouterr().out
        with pytest.raises(UserError, match=r"data\.test_records: 6 -> 5"):
            going_on.announce(opened(pets), [])
        assert pretrain._training(config, workdir, History()).monitors
