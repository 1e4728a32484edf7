"""Paths in configs: what is stored, what a path from another folder means, and those that cannot be followed."""

import pwd

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import knn, moco_vit_s
from repre_jax.core import config_paths
from repre_jax.core.errors import UserError
from repre_jax.data import sources
from repre_jax.pretrained import backbone
from repre_jax.running import resume
from repre_jax.system import command_line
from repre_jax.system.shipped import root


def pictures(folder, count):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def two_folders(tmp_path):
    """one/pets with 3 pictures, two/pets with 5."""
    pictures(tmp_path / "one" / "pets", 3)
    pictures(tmp_path / "two" / "pets", 5)
    return tmp_path


def parsed(*arguments):
    return command_line.parse(["main.py", "--config", str(root() / "configs/moco_vit_s.py") + ":tiny", *arguments])


def test_the_command_line_gives_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    config, workdir = parsed(
        *("--config.data.name=folder:pets", "--config.data.dir=~/data", "--config.init_from=../run", "--workdir=~/w")
    )
    assert (config.data.name, config.data.dir) == (f"folder:{tmp_path}/pets", "/home/someone/data")
    assert (config.init_from, str(workdir)) == (f"{tmp_path}/../run", "/home/someone/w")
    config, _ = parsed("--config.data.name=mnist")
    assert (config.data.name, config.data.dir, config.init_from) == ("mnist", None, None)
    assert (config_paths.stored("data.dir", ""), config_paths.stored("wandb", "x")) == ("", "x")


def test_a_stored_path_goes_on_meaning_the_same_pictures(two_folders, monkeypatch):
    monkeypatch.chdir(two_folders / "one")
    theirs = moco_vit_s.get_config("tiny")
    theirs.data.name = "folder:pets"
    config_paths.settle(theirs)
    monkeypatch.chdir(two_folders / "two")
    ours = knn.get_config()
    backbone._fill(ours, theirs, two_folders / "run")
    assert len(sources.open_dataset(ours.data.name).train) == 3
    ours = knn.get_config()
    ours.data.name = "folder:pets"  # given anew: goes before
    backbone._fill(ours, theirs, two_folders / "run")
    assert len(sources.open_dataset(ours.data.name).train) == 5


def test_an_old_run_with_a_relative_path_is_read_from_here_and_says_so(two_folders, monkeypatch, capsys):
    monkeypatch.chdir(two_folders / "one")
    theirs, ours = moco_vit_s.get_config("tiny"), knn.get_config()
    theirs.data.name = "folder:pets"
    backbone._fill(ours, theirs, two_folders / "run")
    assert ours.data.name == f"folder:{two_folders}/one/pets"
    said = capsys.readouterr().out
    assert "says data.name=folder:pets, a path from the folder in which it was started" in said
    assert f"here it is folder:{two_folders}/one/pets." in said


def test_an_old_run_with_relative_paths_goes_on_where_it_was_started(two_folders, monkeypatch):
    before = {"data": {"name": "folder:pets", "version": "as it lies there"}, "init_from": "../one/run"}
    now = {"data": {"name": f"folder:{two_folders}/one/pets", "version": "as it lies there"}}
    now["init_from"] = f"{two_folders}/one/run"
    monkeypatch.chdir(two_folders / "one")
    assert resume.check_unchanged(before, now, "config") == []
    monkeypatch.chdir(two_folders / "two")
    with pytest.raises(UserError, match=r"data.name: 'folder:pets' -> 'folder:/"):
        resume.check_unchanged(before, now, "config")
    assert resume.check_unchanged(before, now, "config", ("data.name",)) == [
        f"data.name: 'folder:pets' -> 'folder:{two_folders}/one/pets'"
    ]


def test_a_folder_that_is_left_out_is_not_the_current_one(two_folders, monkeypatch):
    """As --config.data.name=folder:$PETS gives it where PETS is not set. A run of before that stored it is read."""
    monkeypatch.chdir(two_folders / "one")
    for read in (lambda: parsed("--config.data.name=folder:"), lambda: sources.open_dataset("folder:")):
        with pytest.raises(UserError, match=r"without a folder\.\n  expected: folder:PATH.*folder:\.\n"):
            read()
    assert parsed("--config.data.name=folder:.")[0].data.name == f"folder:{two_folders / 'one'}"
    assert config_paths.same("data.name", "folder:", f"folder:{two_folders / 'one'}")


def test_one_place_has_several_names(two_folders):
    (two_folders / "link").symlink_to(two_folders / "one")
    straight = f"folder:{two_folders}/one/pets"
    for other in (f"folder:{two_folders}/two/../one/pets", f"folder:{two_folders}/link/pets", straight + "/"):
        assert config_paths.same("data.name", other, straight)
    for other in (f"folder:{two_folders}/two/pets", f"{two_folders}/one/pets", "mnist", None):
        assert not config_paths.same("data.name", other, straight)
    assert not config_paths.same("seed", 1, 2)
    assert not config_paths.same("data.dir", "~no_such_user/pets", "/pets"), "what cannot be followed leads nowhere"


@pytest.mark.parametrize(
    ("key", "value", "relative"),
    [
        ("data.name", "folder:pets", True), ("data.name", "folder:~/pets", False), ("data.name", "folder:/pets", False),
        ("data.name", "mnist", False), ("data.dir", "pets", True), ("data.dir", "~/pets", False),
        ("init_from", "../run", True), ("init_from", None, False), ("wandb", "pets", False),
    ],
)  # fmt: skip
def test_which_stored_values_the_current_folder_decides_on(key, value, relative):
    assert config_paths.is_relative(key, value) is relative


def test_images_that_are_gone_are_named_with_what_to_type(tmp_path):
    with pytest.raises(UserError, match=rf"(?s){tmp_path}/gone, the folder.*--config.data.name=folder:PATH"):
        sources.open_dataset(f"folder:{tmp_path}/gone")


@pytest.mark.parametrize("key", config_paths.KEYS)
def test_an_unknown_users_home_is_named(key):
    *groups, last = key.split(".")
    value = "folder:~no_such_user/x" if key == "data.name" else "~no_such_user/x"
    config = ConfigDict({groups[0]: {last: value}} if groups else {last: value})
    with pytest.raises(UserError, match=r"(?s)'~no_such_user/x' cannot be followed: there is no user 'no_such_user'"):
        config_paths.settle(config)


def test_a_user_without_a_home(monkeypatch):
    """As in a container with a user id that /etc/passwd does not know."""

    def unknown(_):
        raise KeyError("getpwuid(): uid not found")  # Python's own words

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UserError, match=r"(?s)'~/x' cannot be followed: nobody knows the home.*variable HOME"):
        config_paths.absolute("~/x")
    assert str(config_paths.absolute("/x")) == "/x"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", "~/tensorflow_datasets")  # what it is then
    with pytest.raises(UserError, match=r"(?s)TFDS_DATA_DIR to a folder; or --config.data.dir=DIR"):
        sources.data_root(None)
    assert str(sources.data_root("/data")) == "/data"
