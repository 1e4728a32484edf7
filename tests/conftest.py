"""Eight fake CPU devices and one compile cache for every test and its child processes.

XLA leaves out most optimisations: compiling is most of what the tests do. The demo's test, and whatever runs on an
accelerator, compile as users do.

REPRE_TEST_PLATFORM=cuda (or tpu) runs the tests on an accelerator instead; those that need eight devices then skip.
All of this must be set before jax is first imported, hence at the top.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = os.environ.get("REPRE_TEST_PLATFORM")
os.environ["JAX_PLATFORMS"] = PLATFORM or "cpu"
if not PLATFORM:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """A fresh data directory, so that the digits are prepared by every session's own run."""
    folder = tmp_path_factory.mktemp("tfds")
    os.environ["TFDS_DATA_DIR"] = str(folder)
    return folder


@pytest.fixture
def eight_devices():
    """Skips where there are not eight devices."""
    if jax.device_count() != 8:
        pytest.skip(f"needs 8 devices, {jax.device_count()} {jax.default_backend()} here (REPRE_TEST_PLATFORM is set)")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """(workdir, result, StepTrace) of a whole run with all its checkpoints."""
    from tests.helpers import tracing
    from tests.helpers.runs import run

    workdir = tmp_path_factory.mktemp("runs") / "whole"
    with tracing.of_step() as trace:
        result = run(workdir)
    return workdir, result, trace


@pytest.fixture(scope="session")
def finished(finished_run):
    """(workdir, result) of that run; to be looked at or copied, not changed."""
    return finished_run[:2]


@pytest.fixture(scope="session")
def step_trace(finished_run):
    """The files that its step entered."""
    return finished_run[2]
