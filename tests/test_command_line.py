"""Which file --config names: a path, or a config's name, from any folder."""

import sys
from pathlib import Path

import pytest

import main
from repre_jax.core.errors import UserError
from repre_jax.system import command_line
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
    names = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"base", "base_evaluation", "figures"}
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
    assert all(f"configs/{name}.py" in shown for name in names)
