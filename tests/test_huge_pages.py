"""main.py asks for larger pages, once, and nobody else's process is started anew."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from repre_jax.system import huge_pages
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
# A program in main.py's manner, on a machine whose kernel and C library are told.
PROGRAM = """
import os, platform, sys
from pathlib import Path
from repre_jax.system import huge_pages

setting, version, *rest = sys.argv[1:]
platform.libc_ver = lambda: ("glibc", version)
huge_pages.SETTING = Path(setting)
print("started", os.getpid(), flush=True)
if "dropped" in rest:
    os.environ.pop("GLIBC_TUNABLES", None)
huge_pages.restart()
print(os.environ.get("GLIBC_TUNABLES"), rest)
assert huge_pages.RESTARTED not in os.environ
"""
STEPS = """
import resource
from repre_jax.system import huge_pages
huge_pages.restart()
import jax, jax.numpy as jnp

x = jnp.ones((1250, 8000))
step = jax.jit(lambda x: (jnp.sin(x) @ jnp.ones((8000, 8))).sum())  # sin(x) are 40 MB, or 9,766 pages of 4 KiB
faults = []
for _ in range(4):
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-2])
"""


def variables_without_ours():
    kept = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    return kept | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def start(tmp_path, *arguments, program=PROGRAM, **variables):
    path = tmp_path / "program.py"
    path.write_text(program)
    environment = variables_without_ours() | variables
    command = [sys.executable, "-u", str(path), *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=HANGS
    ).stdout.splitlines()


def kernel(tmp_path, text):
    path = tmp_path / "enabled"
    path.write_text(text)
    return str(path)


def test_a_program_starts_once_more_with_its_arguments_and_process_id(tmp_path):
    first, second, last = start(tmp_path, kernel(tmp_path, "always [madvise] never\n"), "2.35", "a b", "--c=d")
    assert first == second
    assert last == "glibc.malloc.hugetlb=1 ['a b', '--c=d']"


def test_a_start_that_changes_nothing_is_the_last(tmp_path):
    """The loader drops the variable for a Python that has capabilities."""
    first, second, last = start(tmp_path, kernel(tmp_path, "always [madvise] never\n"), "2.35", "dropped")
    assert first == second
    assert last == "None ['dropped']"


def test_what_else_the_user_tunes_stays(tmp_path):
    own = "glibc.malloc.arena_max=3"
    said = start(tmp_path, kernel(tmp_path, "always [madvise] never\n"), "2.36", GLIBC_TUNABLES=own)
    assert said[-1] == f"{own}:glibc.malloc.hugetlb=1 []"


@pytest.mark.parametrize(
    ("setting", "version", "variables"),
    [
        ("[always] madvise never\n", "2.36", {}),
        ("always madvise [never]\n", "2.36", {}),
        ("always [madvise] never\n", "2.34", {}),
        ("always [madvise] never\n", "2.36", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}),
        (None, "2.36", {}),
    ],
    ids=["the kernel does it by itself", "the kernel never does", "an old glibc", "refused", "no such kernel"],
)
def test_nothing_starts_anew_where_nothing_is_to_be_had(setting, version, variables, tmp_path):
    path = kernel(tmp_path, setting) if setting else str(tmp_path / "none")
    said = start(tmp_path, path, version, **variables)
    assert len(said) == 2
    assert said[-1] == f"{variables.get('GLIBC_TUNABLES')} []"


@pytest.mark.parametrize("how", ["session", "debugger", "pipe"])
def test_who_runs_the_program_for_another_is_left_alone(how, tmp_path):
    """As IPython's %run, pdb and a shell's < do."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    arguments = [kernel(tmp_path, "always [madvise] never\n"), "2.36"]
    session = (
        f"import runpy, sys; sys.argv = {[str(path), *arguments]!r}; runpy.run_path({str(path)!r}, {{}}, '__main__')"
    )
    command = {
        "session": ["-c", session],
        "debugger": ["-m", "pdb", "-c", "continue", str(path), *arguments],
        "pipe": ["-", *arguments],
    }[how]
    done = subprocess.run(
        [sys.executable, *command],
        env=variables_without_ours(),
        input=PROGRAM if how == "pipe" else "quit\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    said = [line.split()[-2] for line in done.stdout.splitlines() if line.startswith(("started", "None"))]
    assert said == ["started", "None"]


@pytest.mark.parametrize("file", ["program.py", "program/__main__.py"])
def test_a_module_starts_once_more(file, tmp_path):
    """As `python -m benchmarks.train_step` and `python -m repre_jax`."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(PROGRAM)
    arguments = [kernel(tmp_path, "always [madvise] never\n"), "2.36"]
    command = [sys.executable, "-m", "program", *arguments]
    done = subprocess.run(
        command, env=variables_without_ours(), cwd=tmp_path, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert done.stdout.count("started") == 2


def test_a_restart_that_is_refused_costs_nothing_but_time(tmp_path):
    refusing = "import os\ndef refuse(*_):\n    raise PermissionError\nos.execve = refuse\n" + PROGRAM
    said = start(tmp_path, kernel(tmp_path, "always [madvise] never\n"), "2.36", program=refusing)
    assert len(said) == 2
    assert said[-1] == "None []"


def test_a_steps_memory_comes_in_large_pages(tmp_path, monkeypatch):
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    if not huge_pages._lacking() or resource.getpagesize() != 4096:
        pytest.skip("counts page faults, and this kernel or C library does not hand out pages of 2 MiB on request")
    (with_them,) = start(tmp_path, program=STEPS)
    (without,) = start(tmp_path, program=STEPS, GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert int(without) >= 9766
    assert int(with_them) < int(without) / 5


def test_main_starts_anew_before_it_imports_jax(tmp_path, monkeypatch):
    """If larger pages are to be had. The interpreter says what it starts and imports."""
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    (tmp_path / "sitecustomize.py").write_text("import sys; print('started', *sys.orig_argv[1:], file=sys.stderr)")
    command = [sys.executable, "-v", "main.py", "--help"]
    variables = variables_without_ours() | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGS)
    said = [line for line in done.stderr.splitlines() if line.startswith(("started", "import 'jax'"))]
    starts = 2 if huge_pages._lacking() else 1
    assert said[:starts] == ["started -v main.py --help"] * starts
    assert [line.split()[0] for line in said[starts:]] == ["import"]
