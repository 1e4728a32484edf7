"""What a shell sees: help of one screen, completion, and --dry-run."""

import importlib
import itertools
import re
import subprocess
import time
from pathlib import Path

import pytest

import main
from repre_jax.core.errors import UserError
from repre_jax.running import memory
from repre_jax.system import command_line
from repre_jax.tasks import dry_run

TOOLS = sorted(path.stem for path in (Path(main.__file__).parent / "repre_jax" / "tools").glob("*.py"))
TOOLS = [name for name in TOOLS if name not in ("__init__", "which_images")]  # which two tools share
SCREEN = 40  # lines
CASES = {  # words as bash splits them, and what it is offered
    "a config": (["repre-jax", "--config", "moco_vi"], ["moco_vit_b", "moco_vit_s"]),
    "a variant": (["repre-jax", "--config", "moco_vit_s", ":", "dig"], ["digits"]),
    "every variant": (["repre-jax", "--config", "knn", ":"], ["digits", "scenes", "tiny"]),
    "another one": (["repre-jax", "--config", "=", "moco_vit_s", ":", "digits,ba"], ["digits,baseline"]),
    "of a path": (
        ["python", "main.py", "--config", "configs/segment.py", ":", "mla,sc"],
        ["mla,scratch", "mla,scenes"],
    ),
    "a flag": (["python", "main.py", "--dr"], ["--dry-run"]),
    "another program": (["python", "other.py", "--dr"], []),
}
GLUED = (":", "=")  # breaks between words that no blank is beside


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(dry_run, "WARM_UP", (5.0, 1))
    monkeypatch.setattr(dry_run, "TIMED", (20.0, 3))


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(command_line.completion(["main.py", "--completion", "bash"]))
    return path


@pytest.mark.parametrize("case", CASES)
def test_bash_completes(script, case):
    words, offered = CASES[case]
    line = ""
    for before, word in zip(["", *words], words, strict=False):
        line += word if not line or before in GLUED or word in GLUED else f" {word}"
    code = f"""source {script}
    COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
    COMP_LINE='{line}' COMP_POINT={len(line)}
    function=$(complete -p {words[0]}); function=${{function##*-F }}; ${{function%% *}}
    printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


def test_in_bash_another_completion_of_python_stays(script):
    code = f"""other() {{ COMPREPLY=(others); }}; complete -F other python
    source {script}; source {script}
    COMP_WORDS=(python -m) COMP_CWORD=1 COMP_LINE='python -m' COMP_POINT=9
    _repre_jax_python; echo "${{COMPREPLY[@]}}" """
    assert subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=True).stdout == "others\n"


def test_a_shell_without_completion_is_named(capsys):
    assert main.main(["main.py", "--completion", "fish"]) == 1
    assert "--completion is 'fish'.\n  expected: bash or zsh" in capsys.readouterr().err
    for words in (["--quiet", "--completion=bash"], ["--completion", "bash", "--quiet"]):
        assert main.main(["main.py", *words]) == 0
        assert "\ncomplete -o default -F _repre_jax repre-jax\n" in capsys.readouterr().out
    assert main.main(["main.py", "--config", "knn", "--completion", "bash"]) == 1


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_one_screen_with_examples(tool, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"repre_jax.tools.{tool}").main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert len(text.splitlines()) <= SCREEN
    assert f"\n  python -m repre_jax.tools.{tool} " in text


def test_the_help_of_main_is_one_screen_and_names_every_tool(capsys):
    assert main.main(["main.py", "--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= SCREEN // 2 and max(map(len, text.splitlines())) <= 120
    assert "python main.py --config configs/moco_vit_s.py:digits" in text
    assert all(f"{tool}," in text or f"{tool}." in text for tool in TOOLS)


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(tmp_path, capsys, few_steps):
    workdir = tmp_path / "run"
    assert main.main(["main.py", "--config=configs/moco_vit_s.py:tiny", "--dry-run", f"--workdir={workdir}"]) == 0
    text = capsys.readouterr().out
    assert not workdir.exists()
    assert "\n  framework      moco_v3; " in text
    assert re.search(r"\n  memory    [\d.]+ GiB a device in a step, as XLA plans it; there are [\d.]+ GiB\n", text)
    assert re.search(r"\n  a step    [\d,]+ ms with reading the data, mean of 3; [\d,]+ images/s\n", text)
    assert re.search(r"\n  an epoch  \d+:\d\d, 89\.8 steps\n  the run   \d+:\d\d, 0\.0890\d epochs, ", text)


def test_a_dry_run_of_a_run_that_was_begun_is_of_what_is_left(tmp_path, capsys, few_steps):
    """And is refused for what the run would be."""
    workdir, other = tmp_path / "run", tmp_path / "other"
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny", f"--workdir={workdir}"]
    assert main.main([*command, "--config.total_steps=2"]) == 0
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    longer = "--config.may_change=('total_steps',)"
    assert main.main([*command, "--dry-run", "--config.total_steps=2"]) == 0
    assert f"The run in {workdir} is finished." in capsys.readouterr().out
    assert main.main([*command, "--dry-run", longer, "--config.total_steps=6"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"\n  going on      from step 2 of 6\n", text)
    assert re.search(r"\n  what is left  \d+:\d\d, 0\.04\d+ epochs, ", text)
    assert main.main([*command, "--dry-run", "--config.total_steps=6"]) == 1
    named = f"This workdir holds a run with another config:\n  total_steps: 2 -> 6\n  workdir:  {workdir}\n  change: "
    assert named in capsys.readouterr().err
    elsewhere = [*command[:2], f"--workdir={other}", "--dry-run"]
    assert main.main([*elsewhere, f"--config.init_from={workdir}", "--config.encoder.width=8"]) == 1
    assert "has another encoder:\n  encoder.width: " in capsys.readouterr().err
    assert not other.exists()
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_step_that_does_not_fit_is_not_taken(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "per_device", lambda: 1 << 20)
    assert main.main(["main.py", "--config=configs/moco_vit_s.py:tiny", "--dry-run", f"--workdir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "\n  a step  not timed, since it does not fit; change, in this order:\n" in text
    assert re.search(r"\n          1\. --config\.accumulate=2 \(\d images a device at once; ", text)
    assert re.search(r"\n          \d\. --config\.batch_size=8 \(\d images a device\)\n", text)

    def untold():
        raise UserError("No device tells how much memory it has.")

    monkeypatch.setattr(memory, "per_device", untold)
    monkeypatch.setattr(dry_run, "_times", lambda *_: [])
    assert main.main(["main.py", "--config=configs/moco_vit_s.py:tiny", "--dry-run", f"--workdir={tmp_path}"]) == 0
    assert re.search(r"\n  memory  [\d.]+ GiB a device in a step, as XLA plans it\n", capsys.readouterr().out)


class Computing:
    """An array that a device will have computed by then."""

    def __init__(self, then):
        self.then = then

    def block_until_ready(self):
        time.sleep(max(0, self.then - time.perf_counter()))


def test_timed_steps_end_with_their_time():
    """However fast they are given to the device, which takes 0.05 s a step."""

    def program(state, _):
        then = Computing(max(state.then, time.perf_counter()) + 0.05)
        return then, then

    _, steps, seconds = dry_run._take(program, Computing(0), itertools.repeat(None), 0.5, 1000)
    assert 0.05 * steps <= seconds
    assert steps <= 15
    assert dry_run._take(program, Computing(0), itertools.repeat(None), 100, 3)[1] == 3


def test_only_a_pre_training_has_a_dry_run(capsys):
    assert main.main(["main.py", "--config=configs/knn.py:tiny", "--dry-run"]) == 1
    assert "--dry-run is of a pre-training.\n  given:    a config of task 'knn'" in capsys.readouterr().err
