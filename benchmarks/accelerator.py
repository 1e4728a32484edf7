"""All that is to be measured on an accelerator, in slices of a few minutes that go on where the last one stopped.

  python -m benchmarks.accelerator [--slice-minutes 9] [--out benchmarks/results/accelerator] [--only demo,attention]
                                   [--commit] [--forget PARTS|failed] [--torch-python PYTHON] [--list] [--tiny]

Each part (benchmarks/accelerator_parts.py) is a process of its own. OUT gets PART.txt, what it printed, and PART.json:
command, device, machine, date, commit, exit status, seconds; and summary.md. --commit commits these at the end of each
slice. What the same command of the same code did on the same device is not done again; a part that failed is done, too,
and the others go on: --forget failed lets the next slice run it once more. Code is known by the SHA-256 of its files,
so that results may be committed in between. A part begins where the time that it took before, or is expected to take,
fits into what is left of the slice; nothing is ended before it is finished. One that was begun and not finished,
because somebody ended it with the slice, begins the next slice, and the second time it counts as failed.

The exit status is 0 when nothing is left, 75 when another slice has something to do.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmarks import accelerator_parts
from benchmarks import accelerator_records as records
from benchmarks.accelerator_parts import ROOT, Part
from benchmarks.accelerator_records import Here
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.system import command_line, environment

CODE = ("main.py", "Makefile", "repre_jax/**/*.py", "configs/*.py", "benchmarks/*.py", "tests/**/*.py")
LEFT = 75  # the exit status, EX_TEMPFAIL
TRIES = 2  # how often a part may be begun and not finished
SECONDS_TO_END = 20  # that a part has once it was asked to end


def sources(root: Path = ROOT) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in CODE for path in root.glob(pattern)}):
        digest.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def here() -> tuple[str, Here]:
    """(JAX's name of the platform, the rest). Another process asks, so that the device stays free."""
    ask = "import jax; d = jax.devices(); print(d[0].platform, len(d), d[0].device_kind, sep='|')"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"JAX finds no device here: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    platform, count, kind = done.stdout.strip().splitlines()[-1].split("|")
    return platform, Here(f"{count} x {kind}", console.machine(), environment.commit(), sources())


def run_slice(parts: Sequence[Part], at: Here, out: Path, minutes: float) -> list[str]:
    """Runs what fits, and returns the names of the parts that are left."""
    end = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
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
    """What it prints is in its file while it runs. Ended by Ctrl-C, it has not been begun."""
    marker = out / f"{part.name}{records.BEGUN}"
    known = {"command": part.shown(), "sources": at.sources, "device": at.device}
    marker.write_text(json.dumps(known | {"tries": records.tries(part, at, out) + 1}))
    print(f"{part.name}: {part.shown()}", flush=True)
    begun = time.monotonic()
    try:
        with (out / f"{part.name}.txt").open("w") as log:
            print(records.heading(part, at), flush=True, file=log)
            rc = exit_status(part, log)
    except KeyboardInterrupt:
        marker.unlink()
        raise
    records.write(part, at, out, rc=rc, seconds=time.monotonic() - begun)


def exit_status(part: Part, log: IO[str]) -> int:
    """Runs it in a session of its own. However this ends, no process of the part stays on the device."""
    process = subprocess.Popen(
        part.command, cwd=ROOT, env=part.environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
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


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice-minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accelerator"))
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
    out = arguments.out.resolve()
    to = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out  # where parts are run: no machine's own path
    if arguments.tiny:
        parts = accelerator_parts.tiny(to)
    else:
        parts = accelerator_parts.all_parts(platform, to, arguments.torch_python, at.sources + at.device)
    names = [part.name for part in parts]
    only, forgotten = (list(filter(None, asked.split(","))) for asked in (arguments.only, arguments.forget))
    if unknown := sorted({*only, *forgotten} - {*names, records.FAILED}):
        raise UserError(f"Unknown part {', '.join(unknown)}.\n  expected: {', '.join(names)}")
    wanted = [part for part in parts if not only or part.name in only]
    if arguments.list:
        print("\n".join(f"{part.name:<16} {part.minutes:4.1f} minutes  {part.shown()}" for part in wanted))
        return 0
    if forgotten:
        gone = records.forget(parts, forgotten, out)
        print(f"Forgotten: {', '.join(gone) or 'nothing'}; without --forget they are done again.")
        return 0
    if arguments.commit:
        records.check_clone()
    try:
        left = run_slice(wanted, at, out, arguments.slice_minutes)
    finally:
        records.summarise(parts, at, out)
    print(f"Left: {', '.join(left)}; the same command goes on." if left else f"Nothing is left: {to / 'summary.md'}")
    if arguments.commit:
        print(records.commit(out))
    return LEFT if left else 0


if __name__ == "__main__":
    with command_line.ending("Interrupted; the same command goes on.") as this:
        this.status = run()
    sys.exit(this.status)
