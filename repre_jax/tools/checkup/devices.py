"""The devices that JAX sees, those that it should see, and attention on them."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repre_jax.system import shipped
from repre_jax.tools.checkup import NEW, Problem, Section, gigabytes

PATIENCE = 120  # seconds for JAX to start and compile one attention
DRIVERS = {"cuda12": 525, "cuda13": 580}  # as requirements-cuda.txt says
SHOWN = re.compile(r"JAX_.*|XLA_.*|CUDA_VISIBLE_DEVICES|LD_LIBRARY_PATH")


def probe(environment: Mapping[str, str], root: Path) -> dict[str, Any]:
    """What accelerator.py prints under this environment; 'log': the last line that JAX wrote beside it.

    root: the folder that holds repre_jax.
    """
    quiet = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}  # leaves the memory to a run that goes on here
    command = [sys.executable, "-m", "repre_jax.tools.checkup.accelerator"]
    with subprocess.Popen(
        command, env=quiet, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            out, err = child.communicate(timeout=PATIENCE)
            log = (err.strip().splitlines() or [""])[-1][:300]
            ending = f"its process ended with status {child.returncode}: {log}"
        except subprocess.TimeoutExpired:
            child.kill()
            out, log = child.communicate()[0], ""
            ending = f"no answer within {PATIENCE} s; another process may hold the devices"
        finally:
            child.kill()  # where it still runs, after Ctrl-C
    return understood(out, ending) | {"log": log}


def understood(out: str, ending: str) -> dict[str, Any]:
    """The lines of accelerator.py put together; what is missing is put down to how it ended."""
    answers: dict[str, Any] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # a library's line, or half a line
            answers |= json.loads(line)
    if "devices" not in answers and "error" not in answers:
        answers["error"] = ending
    elif "devices" in answers and answers["devices"][0]["platform"] == "gpu" and "attention" not in answers:
        answers["attention"] = {"error": ending}
    return answers


def nvidia_gpus() -> list[str]:
    """'name, memory, driver' of each GPU, as nvidia-smi prints them; none where there is no working nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def tpu_file() -> str | None:
    """The device file by which the Makefile knows a TPU, if it is there."""
    return next((path for path in ("/dev/accel0", "/dev/vfio/0") if Path(path).exists()), None)


def check(
    found: Mapping[str, Any], gpus: Sequence[str], tpu: str | None, environment: Mapping[str, str], plugins: set[str]
) -> Section:
    """found: probe's. plugins: of cuda12, cuda13 and tpu, those that are installed."""
    rows = [(name, environment[name] or "(empty)") for name in sorted(environment) if SHOWN.fullmatch(name)]
    rows += [("nvidia-smi", gpu) for gpu in gpus]
    if "error" in found:
        return Section([*rows, ("JAX cannot start", found["error"])], _cannot_start(found["error"], environment))
    for index, device in enumerate(found["devices"]):
        memory = f", {gigabytes(device['memory'])} for JAX" if device["memory"] else ""
        rows.append((f"device {index}", f"{device['platform']} ({device['kind']}){memory}"))
    backend = found["devices"][0]["platform"]
    rows.append(("fast attention", fast_attention(backend, found.get("attention"))))
    if backend == "cpu" and (gpus or tpu):
        return Section(rows, [_idle(gpus, tpu, environment, plugins, found["log"])])
    return Section(rows, [])


def _cannot_start(error: str, environment: Mapping[str, str]) -> list[Problem]:
    """None where a package is missing, which the software's problems say."""
    if error.startswith("ModuleNotFoundError"):
        return []
    asked = environment.get("JAX_PLATFORMS")
    if "XLA_FLAGS" in error:
        fix = f"change XLA_FLAGS, which is {environment.get('XLA_FLAGS')!r}"
    elif asked and asked != "cpu":
        error = f"it finds no device of {asked!r}" if error == "AssertionError" else error  # jax/_src/xla_bridge.py
        fix = f"unset JAX_PLATFORMS, which is {asked!r}, or, where there is such a device, "
        fix += f"{_install('cuda')} (NVIDIA) or {_install('tpu')} (TPU)"
    else:
        fix = NEW
    return [Problem(f"JAX cannot start: {error}", fix)]


def _idle(gpus: Sequence[str], tpu: str | None, environment: Mapping[str, str], plugins: set[str], log: str) -> Problem:
    """JAX runs on the CPU beside an accelerator: the likeliest reason."""
    name, kind = (gpus[0].split(",")[0], "cuda") if gpus else (f"a TPU (there is {tpu})", "tpu")
    what = f"JAX runs on the CPU, though this machine seems to have {name}."
    asked, visible = environment.get("JAX_PLATFORMS"), environment.get("CUDA_VISIBLE_DEVICES")
    if asked and not {"cuda", "gpu", "tpu"} & set(asked.split(",")):
        return Problem(what, f"unset JAX_PLATFORMS, which is {asked!r}")
    if not any(plugin.startswith(kind) for plugin in plugins):
        clone = f"make demo ACCELERATOR={kind}, or " if shipped.is_clone() else ""
        return Problem(what, f"{clone}{_install(kind)}{'; for CUDA 13 cuda13 in place of cuda12' if gpus else ''}")
    if gpus and visible in ("", "-1"):
        return Problem(what, f"unset CUDA_VISIBLE_DEVICES, which is {visible!r}")
    for plugin, least in DRIVERS.items() if gpus else ():
        driver = re.search(r",\s*(\d+)[^,]*$", gpus[0])
        if plugin in plugins and driver and int(driver[1]) < least:
            return Problem(f"{what} Its driver is {driver[1]}.", f"install driver {least} or newer, for {plugin}")
    return Problem(f"{what} It says: {log or 'nothing'}", NEW)


def _install(kind: str) -> str:
    """How JAX is installed for 'cuda' or 'tpu': by the clone's file, which a wheel does not have."""
    if shipped.is_clone():
        return f"pip install -r requirements-{kind}.txt"
    return f"pip install 'jax[{'cuda12' if kind == 'cuda' else kind}]'"


def fast_attention(backend: str, tried: Mapping[str, Any] | None) -> str:
    """tried: accelerator.attention's of cuDNN, on a GPU."""
    if tried is None:
        return f"none on {backend} (cuDNN's is for NVIDIA GPUs); the encoders use XLA's, today on every device"
    if "error" in tried:
        return f"cuDNN's does not run here ({tried['error']}); the encoders use XLA's, today on every device"
    return (
        "cuDNN's runs here, ViT-S/16 at 224, bfloat16, forward and backward; largest difference from XLA's: "
        f"{tried['output']:.2g} in the output, {tried['gradients']:.2g} in the gradients. "
        "The encoders use XLA's all the same, today on every device"
    )
