"""Compiled programs are kept where only the user can write, and found again by the next process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repre_jax.system import compile_cache, kept_programs
from repre_jax.tasks import knn, pretrain
from repre_jax.tools.checkup import storage

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import time, jax, jax.numpy as jnp
from repre_jax.system import compile_cache, kept_programs
from repre_jax.tools.checkup import storage
print(compile_cache.keep())
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8)))
"""


def start(home, umask=0o022, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"HOME": str(home), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | variables
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, umask=umask, check=False)
    assert done.returncode == 0, done.stderr
    *said, used = done.stdout.splitlines()
    return used, "\n".join([*said, done.stderr])


def entries(folder):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir() if path.name.endswith("-cache")}


def test_the_next_process_compiles_nothing(tmp_path):
    """And the folder is the user's alone, whatever the umask."""
    folder, _ = start(tmp_path, umask=0o002)
    assert folder.startswith(str(tmp_path / ".cache" / "repre_jax" / "xla-"))
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    first = entries(folder)
    assert first
    assert start(tmp_path)[0] == folder
    assert entries(folder) == first


def test_what_others_could_write_to_is_not_used(tmp_path):
    folder, _ = start(tmp_path)
    Path(folder).chmod(0o777)
    before = entries(folder)
    used, said = start(tmp_path)
    assert used == "None"
    assert f"Compiled programs are not kept: others can write to {folder}." in said
    assert entries(folder) == before
    Path(folder).chmod(0o700)
    (tmp_path / ".cache").chmod(0o777)
    assert f"others can write to {tmp_path / '.cache'}" in start(tmp_path)[1]
    (tmp_path / ".cache").chmod(0o1777)  # as /tmp: others cannot replace what is not theirs
    assert start(tmp_path)[0] == folder


def test_jaxs_own_variable_goes_before(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert start(tmp_path, JAX_COMPILATION_CACHE_DIR=str(elsewhere))[0] == "None"
    assert not (tmp_path / ".cache").exists()


def test_a_home_that_cannot_be_written_to_only_costs_time(tmp_path):
    (tmp_path / ".cache").write_text("a file in its place")
    used, said = start(tmp_path)
    assert used == "None"
    assert "Compiled programs are not kept:" in said
    assert "Traceback" not in said


def test_processors_are_told_apart(monkeypatch):
    here = compile_cache._processor()
    monkeypatch.setattr(compile_cache.platform, "machine", lambda: "other")
    assert compile_cache._processor() != here


@pytest.mark.parametrize("path", ["configs/moco_vit_s.py:tiny", "configs/knn.py:tiny"])
def test_main_keeps_programs_unless_told_not_to(path, monkeypatch):
    import main

    called = []
    monkeypatch.setattr(main.compile_cache, "keep", lambda: called.append(1))
    for task in (pretrain, knn):
        monkeypatch.setattr(task, "run", lambda *_: None)
    main.run(["main.py", f"--config={path}"])
    assert called == [1]
    main.run(["main.py", f"--config={path}", "--config.compile_cache=False"])
    assert called == [1]


def test_the_folder_does_not_grow_without_limit(tmp_path, monkeypatch):
    """What was used longest ago goes, of all kinds of processors, until four fifths of the limit are left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    folder = tmp_path / "repre_jax"
    for number in range(10):
        file = folder / ("xla-old" if number % 2 else "xla-new") / f"{number}-cache"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_bytes(bytes(100))
        os.utime(file, (1_000_000 + number, 1_000_000))  # read after it was written
    assert kept_programs.base() == folder
    assert kept_programs.size(folder) == 1000
    assert storage.compiled().rows == [("kept", f"0 MB in {folder}; at most 5.0 GB are kept")]
    assert kept_programs.bound(folder, 1000) == 0
    assert kept_programs.bound(folder, 750) == 400
    assert {path.name for path in folder.glob("*/*")} == {f"{number}-cache" for number in range(4, 10)}
    monkeypatch.setattr(kept_programs.bound, "__defaults__", (500,))
    monkeypatch.setattr(compile_cache.jax.config, "update", lambda *_: None)
    assert compile_cache.keep().parent == folder
    assert kept_programs.size(folder) == 400
    assert kept_programs.bound(tmp_path / "none") == 0
