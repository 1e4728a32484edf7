"""All that is to be measured on an accelerator, in slices of a few minutes that go on where the last one stopped.

  python -m benchmarks.accelerator [--slice-minutes 9] [--out OUT] [--only demo,attention] [--commit]
                                   [--forget PARTS|failed] [--torch-python PYTHON] [--list] [--tiny]

Each part (benchmarks/accelerator_parts.py) is a process of its own. OUT, else benchmarks/results/accelerator/DEVICE,
gets PART.txt, what it printed, and PART.json: command, device, machine, date, versions, commit, exit status, seconds;
and summary.md. --commit commits these at the end of each slice, also of one that is interrupted. What the same command
of the same code and JAX did on the same device is not done again; a part that failed is done, too, and the others go
on: --forget failed lets the next slice run it once more. A part begins where the time that it took before, or is
expected to take, fits into what is left of the slice; nothing is ended before it is finished. One that was begun and
not finished, because somebody ended it with the slice, begins the next slice, and the second time it counts as failed.
Processes of a part that outlived a killed slice are ended by the next one.

The exit status is 0 when nothing is left, 75 when another slice has something to do.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmarks import accelerator_parts, sources
from benchmarks import accelerator_records as records
from benchmarks.accelerator_parts import MARK, Part
from benchmarks.accelerator_records import Here
from benchmarks.sources import ROOT
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.running import workdir
from repre_jax.system import command_line, environment

LEFT = 75  # the exit status, EX_TEMPFAIL
TRIES = 2  # how often a part may be begun and not finished
SECONDS_TO_END = 20  # that a part has once it was asked to end


ASK = """
import jax
from importlib import metadata
devices = jax.devices()
packages = {each.name.lower(): each.version for each in metadata.distributions()}
versions = [f"{name} {packages[name]}" for name in sorted(packages) if name.startswith(("jax", "libtpu"))]
print(devices[0].platform, f"{len(devices)} x {devices[0].device_kind}", ", ".join(versions), sep="|")
"""


def here() -> tuple[str, Here]:
    """(JAX's name of the platform, the rest). Another process asks, so that the device stays free."""
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"JAX finds no device here: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    platform, device, versions = done.stdout.strip().splitlines()[-1].split("|")
    return platform, Here(device, console.machine(), environment.commit(), sources.digest(), versions)


def run_slice(parts: Sequence[Part], at: Here, out: Path, minutes: float) -> list[str]:
    """Runs what fits, and returns the names of the parts that are left."""
    end = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    end_outliving(out)
    left = [part for part in parts if not records.done(part, at, out)]
    left.sort(key=lambda part: -records.tries(part, at, out))  # stable: what was begun before, first
    waiting = []
    for number, part in enumerate(left):
        begun, needed = records.tries(part, at, out), records.expected(part, at, out)
        if begun >= TRIES:
            records.write(part, at, out, rc=None, seconds=None, why=f"was begun {begun} times and not finished")
        elif needed <= end - time.monotonic() or number == 0:  # the first has the whole slice, whatever it needs
            execute(part, at, out)
        else:
            waiting.append(part.name)
            print(f"{part.name}: takes {needed / 60:.1f} minutes, for a later slice", flush=True)
    return waiting


def execute(part: Part, at: Here, out: Path) -> None:
    """What it prints is in its file while it runs. Ended by Ctrl-C, it has not been begun this time."""
    marker, before = out / f"{part.name}{records.BEGUN}", records.tries(part, at, out)
    known = records.of(part, at)
    marker.write_text(json.dumps(known | {"tries": before + 1}))
    print(f"{part.name}: {part.shown()}", flush=True)
    begun = time.monotonic()
    try:
        with (out / f"{part.name}.txt").open("w") as log:
            print(records.heading(part, at), flush=True, file=log)
            rc = exit_status(part, log, out)
    except KeyboardInterrupt:
        marker.write_text(json.dumps(known | {"tries": before}))
        raise
    records.write(part, at, out, rc=rc, seconds=time.monotonic() - begun)


def exit_status(part: Part, log: IO[str], out: Path) -> int:
    """Runs it in a session of its own. However this ends but by SIGKILL, no process of the part stays on the device."""
    variables = part.environment() | {MARK: str(out)}
    process = subprocess.Popen(
        part.command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(SECONDS_TO_END)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end_outliving(out: Path) -> None:
    """Ends what parts of an earlier slice, which was killed, have left on the device. Linux tells which they are."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={out}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice-minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, help="else benchmarks/results/accelerator/DEVICE")
    parser.add_argument("--only", default="", help="parts, joined by commas")
    parser.add_argument("--commit", action="store_true", help="commits OUT at the end of the slice")
    parser.add_argument("--forget", default="", help="removes the records of these parts, or of those that failed")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and timm")
    parser.add_argument("--list", action="store_true", help="prints the parts and runs nothing")
    parser.add_argument("--tiny", action="store_true", help="small parts, to try this out on any machine")
    arguments = parser.parse_args()
    platform, at = here()
    if platform == "cpu" and not any((arguments.tiny, arguments.only, arguments.list, arguments.forget)):
        raise UserError(
            "There is no accelerator here.\n  expected: a GPU or a TPU that JAX finds\n"
            "  change:   --tiny, to try this out; --only PARTS, to run some of it on this CPU"
        )
    slug = re.sub(r"[^a-z0-9]+", "-", at.device.lower())
    out = (arguments.out or ROOT / "benchmarks" / "results" / "accelerator" / slug).resolve()
    to = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out  # where parts are run: no machine's own path
    if arguments.tiny:
        parts = accelerator_parts.tiny(to)
    else:
        parts = accelerator_parts.all_parts(platform, to, arguments.torch_python, at.sources + at.device)
    names = [part.name for part in parts]
    only, forgotten = (list(filter(None, asked.split(","))) for asked in (arguments.only, arguments.forget))
    if unknown := sorted(({*forgotten} - {records.FAILED} | {*only}) - {*names}):
        raise UserError(f"Unknown part {', '.join(unknown)}.\n  expected: {', '.join(names)}")
    wanted = [part for part in parts if not only or part.name in only]
    if arguments.list:
        print("\n".join(f"{part.name:<16} {part.minutes:4.1f} minutes  {part.shown()}" for part in wanted))
        return 0
    if forgotten:
        gone = records.forget(wanted, forgotten, out)
        print(f"Forgotten: {', '.join(gone) or 'nothing'}; without --forget they are done again.")
        return 0
    if arguments.commit:
        records.check_clone(out)
    with workdir.locked(out):  # another slice would end this one's part as what a killed one left
        try:
            left = run_slice(wanted, at, out, arguments.slice_minutes)
        finally:
            records.summarise(parts, at, out)
            if arguments.commit:
                print(records.commit(out), flush=True)
    print(f"Left: {', '.join(left)}; the same command goes on." if left else f"Nothing is left: {to / 'summary.md'}")
    return LEFT if left else 0


if __name__ == "__main__":
    with command_line.ending("Interrupted; the same command goes on.") as this:
        this.status = run()
    sys.exit(this.status)
