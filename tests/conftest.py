"""Two fake CPU devices and one compile cache for every test and its child processes.

Two show all that many devices can get wrong but what depends on their number: tests/eight_devices has those tests, and
`make test` runs it by itself with REPRE_TEST_DEVICES=8. On two cores a tiny run takes eight devices a third longer.

XLA leaves out most optimisations, writes fused loops in its older way, which jaxlib had until 0.12 and which halves
what compiling a step costs, and does not cut a program into 32 for as many threads, which takes a quarter off the rest:
compiling is most of what the tests do. The demo's test, and whatever runs on an accelerator, compile as users do.

REPRE_TEST_PLATFORM=cuda (or tpu) runs the tests on an accelerator instead; those that need two or eight devices
then skip where there are fewer.
All of this must be set before jax is first imported, hence at the top.
"""

import contextlib
import fcntl
import io
import json
import os
import shutil
from pathlib import Path

from tests.helpers.versions import HAS_OLD_LOOPS, OLD_LOOPS

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = os.environ.get("REPRE_TEST_PLATFORM")
DEVICES = os.environ.get("REPRE_TEST_DEVICES", "2")
os.environ["JAX_PLATFORMS"] = PLATFORM or "cpu"
if not PLATFORM:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_cpu_parallel_codegen_split_count=1"
    if HAS_OLD_LOOPS:
        flags += f" --{OLD_LOOPS}=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.load_profile("repeatable")

# There is no such platform: a module that starts JAX, and compiles, when it is imported fails to be collected.
jax.config.update("jax_platforms", "none_while_tests_are_collected")


def pytest_collection_finish():
    """From here on JAX may start."""
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A fresh folder of this call of pytest, the same in all of its workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def data_dir(shared_folder):
    """A fresh data directory, so that the digits are prepared by every session's own run."""
    folder = shared_folder / "tfds"
    folder.mkdir(exist_ok=True)
    os.environ["TFDS_DATA_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def few_reconstructions():
    """Runs draw two reconstructions where users' draw eight: else drawing is a fifth of what a tiny run takes."""
    from repre_jax.builders import monitor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "EXAMPLES", 2)
        yield


@pytest.fixture
def two_devices():
    """Skips where there are not two devices."""
    need_devices(2)


def need_devices(count):
    if jax.device_count() != count:
        pytest.skip(f"needs {count} devices, {jax.device_count()} {jax.default_backend()} here")


@pytest.fixture(scope="session")
def finished_run(shared_folder):
    """(workdir, result, the files of its step) of a whole run with all its checkpoints.

    The first worker that needs it trains it, and the others wait.
    """
    from tests.helpers import tracing
    from tests.helpers.runs import run

    workdir, traced = shared_folder / "runs" / "whole", shared_folder / "runs" / "trace.json"
    workdir.parent.mkdir(exist_ok=True)
    with (workdir.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not traced.exists():
            with tracing.of_step() as trace:
                run(workdir)
            traced.write_text(json.dumps({"way": sorted(trace.way), "entered": sorted(trace.entered)}))
    return workdir, json.loads((workdir / "result.json").read_text()), json.loads(traced.read_text())


@pytest.fixture(scope="session")
def finished(finished_run):
    """(workdir, result) of that run; to be looked at or copied, not changed."""
    return finished_run[:2]


@pytest.fixture(scope="session")
def continued(finished, shared_folder):
    """(workdir, result, what the second start said) of that run gone on with from checkpoint 4, as after a crash at
    step 5: the log already says more. To be looked at, not changed."""
    from tests.helpers.runs import run

    workdir, said = shared_folder / "runs" / "continued", shared_folder / "runs" / "continued.txt"
    with (workdir.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.copytree(finished[0], workdir)
            (workdir / "result.json").unlink()
            for step in (6, 8):
                shutil.rmtree(workdir / "checkpoints" / str(step))
            with contextlib.redirect_stdout(io.StringIO()) as output:
                run(workdir)
            said.write_text(output.getvalue())
    return workdir, json.loads((workdir / "result.json").read_text()), said.read_text()


@pytest.fixture(scope="session")
def step_trace(finished_run):
    """{'way': files between main.py and the losses, 'entered': all files} of that run's step."""
    return finished_run[2]


@pytest.fixture(scope="session")
def drawn_runs(tmp_path_factory):
    """(folder, states by name) of the runs that figures are drawn of; to be looked at or copied, not changed."""
    from tests.helpers.drawing import saved_runs

    root = tmp_path_factory.mktemp("drawn")
    return root, saved_runs(root)


@pytest.fixture
def photos(tmp_path):
    """Two images of odd shapes by path: colours 24 x 61, grey 50 x 31."""
    import cv2
    import numpy as np

    rng, paths = np.random.default_rng(0), [tmp_path / "wide.png", tmp_path / "tall.jpg"]
    cv2.imwrite(str(paths[0]), rng.integers(255, size=(24, 61, 3)).astype(np.uint8))
    cv2.imwrite(str(paths[1]), rng.integers(255, size=(50, 31)).astype(np.uint8))
    return paths
