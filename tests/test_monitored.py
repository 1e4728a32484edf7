"""A test split that has changed since a run began: what only measures itself by it goes on."""

import dataclasses

import pytest

import main
from repre_jax.core.errors import UserError
from repre_jax.running import lifecycle, same_data
from repre_jax.running.resume import History
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
