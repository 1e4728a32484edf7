"""main.py asks for larger pages, once, and nobody else's process is started anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repre_jax.core import huge_pages

ROOT = Path(__file__).resolve().parent.parent
# A program in main.py's manner, on a machine whose kernel and C library are told.
PROGRAM = """
import os, platform, sys
from pathlib import Path
from repre_jax.core import huge_pages

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
MAPS = """
import resource
from repre_jax.core import huge_pages
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


def start(tmp_path, *arguments, program=PROGRAM, **variables):
    path = tmp_path / "program.py"
    path.write_text(program)
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | variables
    command = [sys.executable, "-u", str(path), *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
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


def test_a_session_that_runs_the_program_is_left_alone(tmp_path):
    """As IPython's %run does it."""
    inner = tmp_path / "inner.py"
    inner.write_text(PROGRAM)
    session = f"""
import runpy, sys
sys.argv = [{str(inner)!r}, {kernel(tmp_path, "[madvise]")!r}, "2.36"]
print("session", flush=True)
runpy.run_path({str(inner)!r}, run_name="__main__")
"""
    said = start(tmp_path, program=session)
    assert [line.split()[0] for line in said] == ["session", "started", "None"]


def test_a_steps_memory_comes_in_large_pages(tmp_path):
    """In few faults where this machine has them; else nothing is asked for."""
    (with_them,) = start(tmp_path, program=MAPS)
    (without,) = start(tmp_path, program=MAPS, GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    if huge_pages._lacking():
        assert int(without) >= 9766
        assert int(with_them) < int(without) / 5


def test_main_starts_anew_before_it_imports_jax(tmp_path):
    """Where the machine has larger pages; the interpreter says what it starts, and JAX's folder what it imports."""
    (tmp_path / "sitecustomize.py").write_text("import sys; print('started', *sys.orig_argv[1:], file=sys.stderr)")
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    command = [sys.executable, "-v", "main.py", "--help"]
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": str(tmp_path)}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(("started", "import 'jax'"))]
    starts = 2 if huge_pages._lacking() else 1
    assert said[:starts] == ["started -v main.py --help"] * starts
    assert [line.split()[0] for line in said[starts:]] == ["import"]
