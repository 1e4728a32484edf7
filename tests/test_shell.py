"""What a shell sees: help of one screen, completion, and --dry-run."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest

import main
from repre_jax.system import command_line

TOOLS = sorted(path.stem for path in (Path(main.__file__).parent / "repre_jax" / "tools").glob("*.py"))
TOOLS = [name for name in TOOLS if name not in ("__init__", "which_images")]  # which two tools share
SCREEN = 50  # lines
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


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(command_line.completion("bash"))
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


def test_a_shell_without_completion_is_named(capsys):
    assert main.main(["main.py", "--completion", "fish"]) == 1
    assert "--completion is 'fish'.\n  expected: bash or zsh" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_one_screen_with_examples(tool, capsys):
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


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main.main(["main.py", "--config=configs/moco_vit_s.py:tiny", "--dry-run", f"--workdir={workdir}"]) == 0
    text = capsys.readouterr().out
    assert not workdir.exists()
    assert "\n  framework      moco_v3; " in text
    assert "GiB a device in a step, as XLA plans it\n" in text
    assert re.search(r"\n  a step    [\d,]+ ms with reading the data, mean of \d+; [\d,]+ images/s\n", text)
    assert re.search(r"\n  an epoch  \d+:\d\d, 89\.8 steps\n  the run   \d+:\d\d, 0\.0890\d epochs, ", text)


def test_only_a_pre_training_has_a_dry_run(capsys):
    assert main.main(["main.py", "--config=configs/knn.py:tiny", "--dry-run"]) == 1
    assert "--dry-run is of a pre-training.\n  given:    a config of task 'knn'" in capsys.readouterr().err
