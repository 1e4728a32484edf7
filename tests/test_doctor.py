"""What the doctor says of machines as they should not be: real folders, metadata and processes, and values."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import psutil
import pytest

from repre_jax.data import digits
from repre_jax.tools import doctor
from repre_jax.tools.checkup import Problem, accelerator, devices, software, storage

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "repre_jax.tools.doctor"]
CPU = {"devices": [{"platform": "cpu", "kind": "cpu", "memory": None}], "log": "W: the reason"}
H100 = ["NVIDIA H100 80GB HBM3, 81559 MiB, 535.129.03"]


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
    (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))


def test_a_reader_that_has_seen_enough_ends_it_without_a_traceback():
    """As `head` does: its end of the pipe is closed before the doctor has printed all."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "Software:\n"
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0


@pytest.mark.skipif(
    devices.tpu_file() is not None,
    reason="a TPU's device file cannot be hidden, and leaving a TPU idle is a problem that the doctor rightly reports",
)
def test_a_good_machine_has_no_problems(tmp_path):
    """The command itself, in another folder than the checkout's, on the CPU, without an nvidia-smi on PATH that would
    speak of an idle GPU; with a workdir that is no folder, one problem."""
    digits.prepare(str(tmp_path))
    eight = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PATH": str(tmp_path), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": eight
    }  # fmt: skip
    command = [*COMMAND, f"--data-dir={tmp_path}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    *rows, last = done.stdout.splitlines()
    short = shutil.disk_usage(tmp_path).free < storage.FREE or shutil.disk_usage("/dev/shm").total < storage.SHARED
    assert (done.returncode, last, done.stderr) == (0, "No problems found.", "") or short
    for name, value in (
        ("jax", jax.__version__), ("JAX_PLATFORMS", "cpu"), ("device 7", "cpu (cpu)"),
        ("fast attention", "none on cpu"),
        ("folder", f"{tmp_path}, from --data-dir"), ("digits 1.0.0", "1,437 train, 360 test; array_record"),
    ):  # fmt: skip
        assert any(row.startswith(f"  {name:<24}  {value}") for row in rows), name
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").write_text("")
    command += [f"--workdir={tmp_path / 'file'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f". {tmp_path / 'file'} cannot be written: Not a directory.\n     fix: main.py's --workdir" in done.stdout


def test_nothing_installed_is_no_crash(tmp_path):
    """Without site-packages: not jax, not absl, not even packaging."""
    command = [sys.executable, "-S", *COMMAND[1:], f"--data-dir={tmp_path}", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "  jax                       missing\n" in done.stdout
    assert "1. The package packaging is missing" in done.stdout
    assert "fix: python -m pip install 'jax>=0.10.2,<0.13'" in done.stdout


def test_versions_outside_the_bounds_and_missing_packages(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "# bounds\n-r other.txt\nnumpy>=99,<100  # never\nflax>=0.1\nno-such-package>=1; python_version > '3'\n"
        "not-for-us>=1; sys_platform == 'nowhere'\n"
    )
    section = software.check(software.requirements(tmp_path), sys.path, [])
    rows = dict(section.rows)
    assert rows["numpy"].endswith(", wanted: <100,>=99")
    assert rows["no-such-package"] == "missing, wanted: >=1"
    assert "wanted" not in rows["flax"]
    assert "not-for-us" not in rows
    (problem,) = section.problems
    assert "no-such-package (missing)" in problem.what
    assert problem.fix == "python -m pip install 'numpy<100,>=99' 'no-such-package>=1'"


def test_the_packages_own_bounds_hold_here():
    lines = software.requirements(ROOT)
    assert len(lines) == sum(line[0].isalpha() for line in (ROOT / "requirements.txt").read_text().splitlines() if line)
    assert software.check(lines, sys.path, []).problems == []


def test_an_interrupted_installation_has_no_version(tmp_path):
    (tmp_path / "jax-0.10.2.dist-info").mkdir()
    rows = dict(software.check(["jax>=0.10"], [str(tmp_path)], []).rows)
    assert rows["jax"] == "of unknown version, wanted: >=0.10"


def test_parts_of_jax_that_do_not_match(tmp_path):
    path = [str(tmp_path)]
    pins = [f'jax-cuda{n}-plugin[with-cuda]==0.10.2; extra == "cuda{n}"' for n in (12, 13)]
    install(tmp_path, "jax", "0.10.2", "jaxlib<=0.10.2,>=0.10.1", 'jaxlib==0.10.1; extra == "ci"', *pins)
    lines = ["jax>=0.10.0,<0.13"]
    assert software.check(lines, path, []).problems == [
        Problem("jax 0.10.2 needs jaxlib, which is missing.", "python -m pip install 'jax>=0.10.0,<0.13'")
    ]
    install(tmp_path, "jaxlib", "0.10.2")
    assert software.check(lines, path, []).problems == []
    cudnn = 'nvidia-cudnn-cu12<10,>=9.8; extra == "with-cuda"'
    install(tmp_path, "jax-cuda12-plugin", "0.10.1", "jax-cuda12-pjrt==0.10.1", cudnn)
    install(tmp_path, "jax-cuda12-pjrt", "0.10.1")
    install(tmp_path, "nvidia-cudnn-cu12", "9.1")
    assert software.accelerators(path) == {"cuda12"}
    section = software.check(lines, path, ["cuda12"])
    assert ("jax-cuda12-plugin", "0.10.1") in section.rows
    assert section.problems == [
        Problem(
            "jax 0.10.2 needs jax-cuda12-plugin==0.10.2, but 0.10.1 is installed; "
            "jax-cuda12-plugin 0.10.1 needs nvidia-cudnn-cu12<10,>=9.8, but 9.1 is installed.",
            "python -m pip install 'jax[cuda12]>=0.10.0,<0.13'",
        )
    ]


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        pytest.param(
            "cuda",
            "it finds no device of 'cuda'",
            marks=pytest.mark.skipif(
                bool(devices.nvidia_gpus()), reason="JAX starts on the GPU of this machine; the lack of one is the test"
            ),
        ),
        ("nonsense", "Backend 'nonsense' is not"),
    ],
)
def test_a_backend_that_cannot_start(platform, words):
    environment = os.environ | {"JAX_PLATFORMS": platform}
    section = devices.check(devices.probe(environment, ROOT), [], None, environment, set())
    assert ("JAX_PLATFORMS", platform) in section.rows
    (problem,) = section.problems
    assert words in problem.what
    assert problem.fix.startswith(f"unset JAX_PLATFORMS, which is {platform!r}, or, where there is")


def test_a_backend_that_kills_its_process():
    environment = os.environ | {"XLA_FLAGS": "--xla_no_such_flag"}
    found = devices.probe(environment, ROOT)
    assert "its process ended with status " in found["error"]
    (problem,) = devices.check(found, [], None, environment, set()).problems
    assert problem.what.startswith("JAX cannot start: its process ended")
    assert problem.fix == "change XLA_FLAGS, which is '--xla_no_such_flag'"
    gpu = '{"devices": [{"platform": "gpu"}]}'
    assert devices.understood(f"noise\n1\n{gpu}\n", "it died")["attention"] == {"error": "it died"}
    assert devices.understood(gpu + '\n{"attention": {"output": 0}}\n', "it died")["attention"] == {"output": 0}


@pytest.mark.parametrize(
    ("gpus", "tpu", "environment", "plugins", "fix"),
    [
        ([], None, {}, set(), None),
        (H100, None, {"JAX_PLATFORMS": "cpu"}, {"cuda12"}, "unset JAX_PLATFORMS, which is 'cpu'"),
        (H100, None, {}, set(), "make demo ACCELERATOR=cuda, or pip install -r requirements-cuda.txt"),
        (H100, None, {"CUDA_VISIBLE_DEVICES": "-1"}, {"cuda12"}, "unset CUDA_VISIBLE_DEVICES, which is '-1'"),
        (H100, None, {}, {"cuda13"}, "install driver 580 or newer, for cuda13"),
        (H100, None, {}, {"cuda12"}, "install into a new environment"),
        ([], "/dev/vfio/0", {}, {"cuda12"}, "make demo ACCELERATOR=tpu, or pip install -r requirements-tpu.txt"),
    ],
)
def test_the_cpu_beside_an_accelerator(gpus, tpu, environment, plugins, fix):
    problems = devices.check(CPU, gpus, tpu, environment, plugins).problems
    assert [problem.fix.split("; for CUDA 13")[0].split(", as the")[0] for problem in problems] == (
        [fix] if fix else []
    )
    if fix == "install into a new environment":
        assert problems[0].what.endswith("NVIDIA H100 80GB HBM3. It says: W: the reason")
    gpu = {"devices": [{"platform": "gpu", "kind": "NVIDIA H100", "memory": 60e9}], "attention": {"error": "no"}}
    section = devices.check(gpu | {"log": ""}, gpus, tpu, environment, plugins)
    assert section.problems == []
    assert ("device 0", "gpu (NVIDIA H100), 60.0 GB for JAX") in section.rows


def test_fast_attention_is_run_and_compared():
    """XLA's with itself, forward and backward; cuDNN's where there is none."""
    assert accelerator.attention("xla") == {"output": 0.0, "gradients": 0.0}
    text = devices.fast_attention("gpu", {"output": 0.0078125, "gradients": 0.03125})
    assert "cuDNN's runs here" in text
    assert "0.0078 in the output, 0.031 in the gradients" in text
    if jax.default_backend() == "cpu":
        tried = accelerator.attention("cudnn")
        assert tried["error"]
        assert f"does not run here ({tried['error']})" in devices.fast_attention("gpu", tried)


def test_a_data_directory_that_cannot_be_written(tmp_path):
    """Which is no problem where something is there to be read, as on a cluster."""
    (tmp_path / "file").write_text("")
    section = storage.data(tmp_path / "file" / "data", "--data-dir", 1024)
    assert "file/data cannot be written: Not a directory." in section.problems[0].what
    assert "TFDS_DATA_DIR" in section.problems[0].fix
    assert ("prepared", "nothing; the first run on the digits prepares them") in section.rows


def test_data_sets_as_they_lie_there(tmp_path, monkeypatch):
    def data(open_files: int = 1024):
        section = storage.data(tmp_path, "$TFDS_DATA_DIR", open_files)
        return dict(section.rows), section.problems

    digits.prepare(str(tmp_path))
    rows, problems = data()
    assert rows["digits 1.0.0"] == "1,437 train, 360 test; array_record"
    assert problems == []
    assert "100 open files" in data(100)[1][0].what
    assert data(-1)[1] == []  # unlimited
    with monkeypatch.context() as full:
        full.setattr(storage, "FREE", 1e30)
        assert data()[1] == []  # what is there is read all the same
    place = tmp_path / "digits" / "1.0.0"
    info = json.loads((place / "dataset_info.json").read_text())
    other = tmp_path / "resized" / "64x64" / "2.0.1"
    other.mkdir(parents=True)
    info["fileFormat"] = "tfrecord"
    (other / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "broken" / "1.0.0").mkdir(parents=True)
    (tmp_path / "broken" / "1.0.0" / "dataset_info.json").write_text("{")
    next(place.glob("*-test*")).unlink()
    rows, problems = data()
    assert rows["resized/64x64 2.0.1"].startswith(
        "1,437 train, 360 test; tfrecord, which is not read here; main.py says"
    )
    info["fileFormat"] = "riegeli"
    (other / "dataset_info.json").write_text(json.dumps(info))
    assert "riegeli, which is neither read nor converted here" in data()[0]["resized/64x64 2.0.1"]
    text = " ".join(problem.what for problem in problems)
    assert "1 of the 2 files of digits 1.0.0 are missing" in text
    assert f"{tmp_path / 'broken' / '1.0.0' / 'dataset_info.json'} cannot be read" in text


def test_little_disk_and_little_shared_memory(tmp_path, monkeypatch):
    assert storage.host(64 << 20).problems[0].what.startswith("/dev/shm has 67 MB")
    assert "--shm-size=8g" in storage.host(64 << 20).problems[0].fix
    assert storage.host(8 << 30).problems == storage.host(None).problems == []
    monkeypatch.setattr(storage, "FREE", shutil.disk_usage(tmp_path).total + 1)
    section = storage.disk(tmp_path / "runs" / "mine", "elsewhere")
    assert section.rows[0][1].endswith("which is not there yet")
    assert section.problems[0].fix == "elsewhere"
    monkeypatch.setattr(storage, "FREE", 0)
    assert storage.disk(tmp_path, "elsewhere").problems == []


def test_a_workdir_in_the_home_folder(tmp_path, monkeypatch):
    """Which no shell has followed in --workdir=~/runs; of a user who is not known, the problem says what to write."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(storage, "FREE", 0)
    section = doctor.runs("~/mine")
    assert section.rows[0][1].endswith(f"free in {tmp_path / 'mine'}, which is not there yet")
    assert section.problems == []
    (problem,) = doctor.runs("~nobody7/mine").problems
    assert problem.what == "'~nobody7/mine' cannot be followed: there is no user 'nobody7'."
    assert problem.fix.startswith("write the path in full")


def test_the_verdict():
    assert doctor.verdict([]) == "No problems found."
    assert doctor.verdict([Problem("A.", "a")]) == "1 problem:\n  1. A.\n     fix: a"
    assert doctor.verdict([Problem("A.", "a"), Problem("B.", "b")]).startswith("2 problems:\n  1. A.")


def test_ctrl_c_ends_it_with_one_line(tmp_path):
    """While it waits for an nvidia-smi that takes a minute."""
    slow = tmp_path / "nvidia-smi"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [*COMMAND, f"--data-dir={tmp_path}", f"--workdir={tmp_path}"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in its background
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    while not psutil.Process(child.pid).children():
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert (child.communicate()[1], child.returncode) == ("Interrupted.\n", 130)
