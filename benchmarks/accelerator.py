"""All that is to be measured on an accelerator, in slices of a few minutes that go on where the last one stopped.

  python -m benchmarks.accelerator [--slice-minutes 9] [--out benchmarks/results/accelerator] [--only demo,attention]
                                   [--again PART] [--torch-python PYTHON] [--list] [--tiny]

Each part (benchmarks/accelerator_parts.py) is a process of its own. OUT gets PART.txt, what it printed, and PART.json:
command, device, machine, date, commit, exit status, seconds; and summary.md. What was done by the same code on the same
device is not done again; a part that failed is done, too, and the others go on. Code is known by the SHA-256 of its
files, so that results may be committed in between. A part begins where the time that it took before, or is expected to
take, fits into what is left of the slice; nothing is ended before it is finished. One that was begun and not finished,
because somebody ended it with the slice, begins the next slice, and the second time it counts as failed.

The exit status is 0 when nothing is left, 75 when another slice has something to do.
"""

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import accelerator_parts
from benchmarks.accelerator_parts import Part
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.system import command_line, environment

ROOT = Path(__file__).resolve().parent.parent
CODE = ("main.py", "Makefile", "repre_jax/**/*.py", "configs/*.py", "benchmarks/*.py", "tests/**/*.py")
LEFT = 75  # the exit status, EX_TEMPFAIL
MARGIN = 1.25  # that a part may take longer than before
TRIES = 2  # how often a part may be begun and not finished
BEGUN = ".begun"


@dataclass(frozen=True)
class Here:
    """What a record is of. sources: SHA-256 of the code."""

    device: str
    machine: str
    commit: str | None
    sources: str


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


def run_slice(parts: Sequence[Part], at: Here, out: Path, minutes: float, again: Sequence[str] = ()) -> list[str]:
    """Runs what fits, and returns the names of the parts that are left."""
    end = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    left = [part for part in parts if part.name in again or not done(part, at, out)]
    left.sort(key=lambda part: -tries(part, at, out))  # stable: what was begun before, first
    waiting = []
    for number, part in enumerate(left):
        begun, needed = tries(part, at, out), expected(part, at, out)
        if begun >= TRIES:
            write(part, at, out, rc=None, seconds=None, why=f"was begun {begun} times and not finished")
        elif needed <= end - time.monotonic() or number == 0:  # the first has the whole slice, whatever it needs
            execute(part, at, out)
        else:
            waiting.append(part.name)
            print(f"{part.name}: takes {needed / 60:.1f} minutes, for a later slice", flush=True)
    summarise(parts, at, out)
    return waiting


def execute(part: Part, at: Here, out: Path) -> None:
    """What it prints is in its file while it runs. Ended by Ctrl-C, it has not been begun."""
    marker = out / f"{part.name}{BEGUN}"
    marker.write_text(json.dumps({"sources": at.sources, "device": at.device, "tries": tries(part, at, out) + 1}))
    print(f"{part.name}: {part.shown()}", flush=True)
    begun = time.monotonic()
    try:
        with (out / f"{part.name}.txt").open("w") as log:
            print(heading(part, at), flush=True, file=log)
            rc = subprocess.run(
                part.command, cwd=ROOT, env=part.environment(), stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
    except KeyboardInterrupt:
        marker.unlink()
        raise
    write(part, at, out, rc=rc, seconds=time.monotonic() - begun)


def write(part: Part, at: Here, out: Path, *, rc: int | None, seconds: float | None, why: str = "") -> None:
    said = why or ("done" if rc == 0 else f"failed, exit status {rc}")
    found = {"part": part.name, "command": part.shown(), "said": said, "rc": rc, "seconds": seconds, **vars(at)}
    found["date"] = time.strftime("%Y-%m-%d %H:%M")
    (out / f"{part.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / f"{part.name}{BEGUN}").unlink(missing_ok=True)
    print(f"{part.name}: {said}" + (f" in {seconds:.0f} s" if seconds is not None else ""), flush=True)


def done(part: Part, at: Here, out: Path) -> bool:
    found = read(out / f"{part.name}.json")
    return (found.get("sources"), found.get("device")) == (at.sources, at.device)


def expected(part: Part, at: Here, out: Path) -> float:
    """Seconds: what it took on this device before, whatever the code, and some more; else what it says."""
    found = read(out / f"{part.name}.json")
    known = found.get("seconds") if found.get("device") == at.device and found.get("rc") == 0 else None
    return MARGIN * known if known else 60 * part.minutes


def tries(part: Part, at: Here, out: Path) -> int:
    """How often it was begun here and not finished."""
    found = read(out / f"{part.name}{BEGUN}")
    same = (found.get("sources"), found.get("device")) == (at.sources, at.device)
    return int(found["tries"]) if same else 0


def read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def heading(part: Part, at: Here) -> str:
    return f"{part.shown()}\n{at.device}; {at.machine}; {time.strftime('%Y-%m-%d')}; commit {at.commit}\n"


def summarise(parts: Sequence[Part], at: Here, out: Path) -> None:
    """A line for each part, of whatever device and code its record is."""
    lines = ["| part | | seconds | device | date | commit |", "|---|---|---|---|---|---|"]
    for part in parts:
        found = read(out / f"{part.name}.json")
        if not found:
            lines.append(f"| {part.name} | not done | - | - | - | - |")
            continue
        seconds = "-" if found["seconds"] is None else f"{found['seconds']:.0f}"
        old = "" if found["sources"] == at.sources else ", by other code"
        lines.append(
            f"| {part.name} | {found['said']}{old} | {seconds} | {found['device']} | {found['date']} "
            f"| {(found['commit'] or 'unknown')[:7]} |"
        )
    (out / "summary.md").write_text("\n".join(lines) + "\n")


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice-minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accelerator"))
    parser.add_argument("--only", help="parts, joined by commas")
    parser.add_argument("--again", default="", help="parts, joined by commas, that are done once more")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and timm")
    parser.add_argument("--list", action="store_true", help="prints the parts and runs nothing")
    parser.add_argument("--tiny", action="store_true", help="small parts, to try this out on any machine")
    arguments = parser.parse_args()
    platform, at = here()
    if platform == "cpu" and not arguments.tiny and not arguments.only and not arguments.list:
        raise UserError(
            "There is no accelerator here.\n  expected: a GPU or a TPU that JAX finds\n"
            "  change:   --tiny, to try this out; --only PARTS, to run some of it on this CPU"
        )
    out = arguments.out.resolve()
    to = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out  # where parts are run: no machine's own path
    if arguments.tiny:
        parts = accelerator_parts.tiny(to)
    else:
        parts = accelerator_parts.all_parts(platform, to, arguments.torch_python, at.sources)
    names = [part.name for part in parts]
    for asked in (arguments.only, arguments.again):
        if unknown := set(filter(None, (asked or "").split(","))) - set(names):
            raise UserError(f"Unknown part {', '.join(sorted(unknown))}.\n  expected: {', '.join(names)}")
    if arguments.only:
        parts = [part for part in parts if part.name in arguments.only.split(",")]
    if arguments.list:
        print("\n".join(f"{part.name:<16} {part.minutes:4.1f} minutes  {part.shown()}" for part in parts))
        return 0
    left = run_slice(parts, at, out, arguments.slice_minutes, arguments.again.split(","))
    print(f"Left: {', '.join(left)}; the same command goes on." if left else f"Nothing is left: {out / 'summary.md'}")
    return LEFT if left else 0


if __name__ == "__main__":
    with command_line.ending("Interrupted; the same command goes on.") as this:
        this.status = run()
    sys.exit(this.status)
