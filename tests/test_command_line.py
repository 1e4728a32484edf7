"""Which file --config names: a path, or a config's name, from any folder."""

import contextlib
import functools
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ml_collections import ConfigDict

import main
from configs import base
from repre_jax.core import access
from repre_jax.core.errors import UserError
from repre_jax.system import command_line
from repre_jax.tasks import pretrain
from repre_jax.tools import figures

ROOT = Path(__file__).resolve().parent.parent
MINE = """
from configs import base, {other}
def get_config(variants=""):
    config = base.with_variants(base.get_config(), variants)
    config.seed = {other}.SEED
    return config
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and neither it nor the clone among those that Python imports from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path and Path(path).resolve() != ROOT])
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        del sys.modules[name]


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize("name", ["moco_vit_s", "moco_vit_s.py", "configs/moco_vit_s.py"])
@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_a_name_and_a_path_are_the_same_config_from_any_folder(name, form, elsewhere):
    flag = form.format(f"{name}:tiny,seed=3").split()
    config, workdir = command_line.parse(["repre-jax", *flag, "--config.log_every=5"])
    assert (config.encoder.name, config.data.name, config.seed, config.log_every) == ("vit_s", "digits", 3, 5)
    assert workdir == elsewhere / "runs" / "moco_vit_s-tiny-seed=3"


def test_configs_that_import_another_are_found_too(elsewhere):
    assert command_line.parse(["repre-jax", "--config=dino_swin_t"])[0].encoder.name == "swin_t"
    assert command_line.parse(["repre-jax", "--config=knn:tiny"])[0].task == "knn"


def test_a_file_at_the_path_wins(elsewhere):
    text = "from ml_collections import ConfigDict\ndef get_config(_=''):\n    return ConfigDict({'task': %r})\n"
    write(elsewhere / "configs" / "moco_vit_s.py", text % "in configs")
    write(elsewhere / "other" / "moco_vit_s.py", text % "other")
    for given, task in {
        "configs/moco_vit_s.py": "in configs",
        "moco_vit_s": "in configs",
        "other/moco_vit_s.py": "other",
        str(ROOT / "configs" / "moco_vit_s.py"): "pretrain",
    }.items():
        assert command_line.parse(["repre-jax", f"--config={given}"])[0].task == task


def test_ones_own_configs_import_each_other_and_the_shipped_ones(elsewhere):
    write(elsewhere / "configs" / "mine.py", MINE.format(other="my_seed"))
    write(elsewhere / "configs" / "my_seed.py", "SEED = 11\n")
    assert command_line.parse(["repre-jax", "--config=mine:tiny"])[0].seed == 11
    assert "configs/mine.py" in command_line.list_configs()


def test_what_else_is_called_configs_is_in_nobodys_way(elsewhere, monkeypatch):
    """As in the folder of another project, where a tool is run by python -m."""
    write(elsewhere / "configs" / "__init__.py", "raise AssertionError('imported')")
    monkeypatch.setattr(sys, "path", [str(elsewhere), *sys.path])
    assert command_line.parse(["repre-jax", "--config=moco_vit_s:tiny"])[0].batch_size == 16
    assert figures.main(["attention"]) == 1  # reads configs/figures.py


def test_messages_list_every_config_from_any_folder(elsewhere, capsys):
    names = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"base", "base_evaluation", "embedded", "figures"}
    with pytest.raises(UserError) as error:
        command_line.parse(["repre-jax", "--config=moco_vit_x"])
    assert "Config file moco_vit_x does not exist." in str(error.value)
    listed = str(error.value).split("known:")[1].split(",")
    assert {Path(name.strip()).stem for name in listed} == names
    assert main.main(["main.py", "--help"]) == 0
    shown = capsys.readouterr().out
    assert (
        f"keys:     {ROOT / 'configs' / 'base.py'}, of evaluations {ROOT / 'configs' / 'base_evaluation.py'}" in shown
    )
    assert all(f" {name}," in shown or f" {name}\n" in shown for name in names)


LESS = """
from configs import moco_vit_s
def get_config(variants="tiny"):
    config = moco_vit_s.get_config(variants)
    config.log_every = 3
    {changes}
    return config
"""


def own(tmp_path, changes, *flags):
    """The config that a file of one's own gives on a command line."""
    (tmp_path / "mine.py").write_text(LESS.format(changes=changes))
    return command_line.parse(["main.py", f"--config={tmp_path / 'mine.py'}", *flags])[0]


@pytest.mark.parametrize("key", ["compile_cache", "knn", "augment", "optim.rules", "encoder.patch", "may_change"])
def test_a_key_that_an_own_config_lacks_is_filled_in_and_named(key, tmp_path, capsys):
    usual = base.get_config()
    *group, last = key.split(".")
    found = own(tmp_path, f'del config{"".join(f"[{name!r}]" for name in group)}["{last}"]')
    assert "lacks keys, which become those of configs/base.py: " + key in capsys.readouterr().out
    ours, wanted = (functools.reduce(lambda node, part: node[part], key.split("."), each) for each in (found, usual))
    assert (ours.to_dict() if isinstance(ours, ConfigDict) else ours) == (
        wanted.to_dict() if isinstance(wanted, ConfigDict) else wanted
    )
    assert (found.log_every, found.batch_size, found.encoder.width) == (3, 16, 32), "what the file says stays"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ('del config.framework["temperature"]', "\n  missing:  framework.temperature\n  given:    hidden, momentum, "),
        (
            'del config.framework["momentum_end"]',
            "\n  missing:  framework.momentum_end\n  given:    hidden, momentum, ",
        ),
        (
            'del config.framework["out"]; config.framework.outt = 9',
            "\n  missing:  framework.out\n  unknown:  framework.outt\n",
        ),
        ('del config.framework["name"]', "The config has no framework.name.\n  given:    hidden, momentum, "),
    ],
)
def test_keys_that_a_framework_lacks_are_named(changes, words, tmp_path, capsys):
    """They depend on the framework, so that none stands in configs/base.py."""
    with pytest.raises(UserError) as error:
        pretrain.check(own(tmp_path, f"config.unlock(); {changes}"))
    assert words in str(error.value)
    assert "\n  change:   " in str(error.value)


def test_missing_keys_can_be_given_on_the_command_line(tmp_path):
    found = own(
        tmp_path, 'del config["knn"]; del config.encoder["window"]', "--config.knn.k=7", "--config.encoder.window=3"
    )
    assert (found.knn.k, found.knn.times, found.encoder.window) == (7, 10, 3)
    with pytest.raises(UserError, match="Unknown key 'kk'"):
        own(tmp_path, 'del config["knn"]', "--config.knn.kk=7")


def test_an_own_config_from_scratch_has_everything_else_from_base(tmp_path, capsys):
    file = tmp_path / "scratch.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(_=''):\n"
        "    return ConfigDict({'task': 'pretrain', 'batch_size': 48, 'encoder': {'name': 'vit_ti'}})\n"
    )
    found, _ = command_line.parse(["main.py", f"--config={file}", "--config.epochs=2.5"])
    wanted = base.get_config()
    wanted.update({"batch_size": 48, "epochs": 2.5, "encoder": {"name": "vit_ti"}})
    assert found.to_dict() == wanted.to_dict()
    assert "and" in capsys.readouterr().out
    file.write_text(file.read_text().replace("'pretrain'", "'linear'"))
    found, _ = command_line.parse(["main.py", f"--config={file}"])
    assert (found.linear.factors[0], found.optim.name, found.batch_size) == (0.01, "sgd", 48)


def test_a_renamed_key_and_one_that_nothing_reads(tmp_path, capsys):
    """The first keeps its value, and the command goes before it; the second, with its likely name, is warned of."""
    old = 'config.encoder.flavour = "dino"; del config.encoder["variant"]'
    assert own(tmp_path, old).encoder.variant == "dino"
    found = own(tmp_path, old, "--config.encoder.variant=deit")
    assert (found.encoder.variant, "flavour" in found.encoder) == ("deit", False)
    assert "the config's key encoder.flavour is now called encoder.variant" in capsys.readouterr().out
    own(tmp_path, "config.optim.learning_rate = 0.1; config.batchsize = 4; config.framework.kept = 1")
    said = capsys.readouterr().out
    assert f"nothing reads the key batchsize of {tmp_path / 'mine.py'}. Did you mean batch_size?" in said
    assert "nothing reads the key optim.learning_rate" in said
    assert "framework" not in said, "another framework's keys are its own"
    with pytest.raises(UserError, match=r"knn is 20 in .*mine.py.\n  expected: keys, hog, k, test_records, "):
        own(tmp_path, "del config['knn']; config.knn = 20")


def test_shipped_configs_lack_nothing(capsys):
    for file in sorted((ROOT / "configs").glob("*.py")):
        if not file.stem.startswith(command_line.NO_TASK):
            for variant in (
                ("", ":digits") if file.stem not in ("dense_probe", "detect", "knn", "segment") else (":tiny",)
            ):
                command_line.parse(["main.py", f"--config={file}{variant}"])
    assert capsys.readouterr().out == ""


def test_an_older_base_beside_ones_own_config(elsewhere, capsys):
    """The missing key is looked for among what is shipped, not in the user's own file called base."""
    text = (ROOT / "configs" / "base.py").read_text()
    write(elsewhere / "configs" / "base.py", text.replace("    config.collapse_patience = 20 ", "    #"))
    write(elsewhere / "configs" / "mine.py", MINE.format(other="my_seed"))
    write(elsewhere / "configs" / "my_seed.py", "SEED = 11\n")
    found, _ = command_line.parse(["repre-jax", "--config=mine:tiny"])
    assert (found.collapse_patience, found.seed) == (20, 11)
    assert "collapse_patience=20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--config.encoder.heads=3", "--config.encoder.heads=4"], "encoder.heads", (4,)),
        (["--config.encoder.heads", "3", "--config.encoder.heads=(1, 2)"], "encoder.heads", (1, 2)),
        (["--config.encoder.heads=3", "--config.seed=5", "-config.encoder.heads", "4"], "encoder.heads", (4,)),
        (
            ["--config.augment.jitter=(.1,.1,.1,.1)", "--config.augment.jitter=(.2,.2,.2,0)"],
            "augment.jitter",
            (0.2,) * 3 + (0,),
        ),
        (["--config.tensorboard", "--noconfig.tensorboard"], "tensorboard", False),
        (["--config.tensorboard", "--config.seed=1", "--config.seed=2"], "seed", 2),
    ],
)
def test_of_a_key_given_twice_the_last_one_counts(flags, key, value):
    config, _ = command_line.parse(["main.py", "--config=configs/moco_vit_s.py", *flags])
    assert functools.reduce(lambda node, part: node[part], key.split("."), config) == value


@contextlib.contextmanager
def another_user():
    """While entered: root may read everything, whoever else runs the tests may not read what is closed."""
    me = os.geteuid()
    os.seteuid(me or 54321)
    try:
        yield
    finally:
        os.seteuid(me)


@pytest.mark.parametrize("closed", ["photos/cat/1.jpg", "photos/cat", "photos"])
def test_what_may_not_be_read_is_named_with_what_opens_it(closed, tmp_path, monkeypatch, capsys):
    """In place of a traceback. The command, typed as it is, lets that user read the file."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # whose parents are closed to others, too
    file = Path("photos/cat/1.jpg")
    write(file, "an image")
    Path(closed).chmod(0)
    with another_user(), command_line.ending("The same command goes on.") as this:
        file.read_text()
    said = capsys.readouterr().err
    may_not = "read it" if closed == str(file) else f"enter {closed}"
    assert (this.status, said.splitlines()[0]) == (1, f"{file}: this user may not {may_not}.")
    assert said.endswith("or another path\nThe same command goes on.\n")
    command = re.search(r"change:   (chmod .*?)(?:, by its owner)?; or", said)[1]
    who = "a" if os.geteuid() == 0 else "u"
    assert command == (f"chmod -R {who}+rX {file}" if closed == str(file) else f"chmod {who}+x {closed}")
    subprocess.run(shlex.split(command), check=True)
    with another_user():
        assert file.read_text() == "an image"


@pytest.mark.parametrize("name", ["link", "folder/1.jpg"])
def test_a_closed_folder_that_a_link_leads_into_is_named(name, monkeypatch, capsys):
    """The last part or one before is a link, which this user cannot follow; what it leads to is named whole."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's are closed to others already above
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        write(Path("closed/cat/1.jpg"), "an image")
        Path("link").symlink_to("closed/cat/1.jpg")
        Path("folder").symlink_to("closed/cat")
        closed = Path("closed").resolve()
        closed.chmod(0)
        with another_user(), command_line.ending("The same command goes on.") as this:
            Path(name).read_text()
        closed.chmod(0o755)
    change = f"chmod a+x {closed}, by its owner" if os.geteuid() == 0 else f"chmod u+x {closed}"
    said = f"{name}: this user may not enter {closed}.\n  change:   {change}; or another path\n"
    assert (this.status, capsys.readouterr().err) == (1, f"{said}The same command goes on.\n")


def test_a_link_that_leads_nowhere_or_around_is_no_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("around").symlink_to("around")
    Path("nowhere").symlink_to("not-there")
    for name in ("around", "nowhere", "nowhere/1.jpg"):
        assert access.explained(name) == f"{name}: this user may not write it.\n  change:   another path"


def test_what_may_not_be_written_is_not_said_to_be_unreadable(tmp_path, monkeypatch, capsys):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir(mode=0o555)
    for name in ("photos/new.txt", "old.txt"):
        Path("old.txt").touch(0o444)
        with another_user(), command_line.ending("The same command goes on.") as this:
            Path(name).write_text("more")
        said = f"{name}: this user may not write it.\n  change:   another path\nThe same command goes on.\n"
        assert (this.status, capsys.readouterr().err) == (1, said)
