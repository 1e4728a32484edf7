"""Records of benchmarks/accelerator.py: what each part did, on which device, by which code, in OUT."""

import contextlib
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accelerator_parts import Part
from benchmarks.sources import ROOT
from repre_jax.core.errors import UserError
from repre_jax.system import environment

MARGIN = 1.25  # that a part may take longer than before
BEGUN = ".begun"
FAILED = "failed"  # in place of names of parts
SUBJECT = "Record what an accelerator measured"  # of commits


@dataclass(frozen=True)
class Here:
    """What a record is of. sources: SHA-256 of the code. versions: of JAX and its plugins."""

    device: str
    machine: str
    commit: str | None
    sources: str
    versions: str


def write(part: Part, at: Here, out: Path, *, rc: int | None, seconds: float | None, why: str = "") -> None:
    said = why or ("done" if rc == 0 else f"failed, exit status {rc}")
    found = {"part": part.name, "command": part.shown(), "said": said, "rc": rc, "seconds": seconds}
    found |= vars(at) | of(part, at)
    found["date"] = time.strftime("%Y-%m-%d %H:%M")
    (out / f"{part.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / f"{part.name}{BEGUN}").unlink(missing_ok=True)
    print(f"{part.name}: {said}" + (f" in {seconds:.0f} s" if seconds is not None else ""), flush=True)


def done(part: Part, at: Here, out: Path) -> bool:
    return same(part, at, read(out / f"{part.name}.json"))


def same(part: Part, at: Here, found: dict[str, Any]) -> bool:
    """Whether a record is of this command, code, device and these versions."""
    return all(found.get(name) == value for name, value in of(part, at).items())


def of(part: Part, at: Here) -> dict[str, str]:
    return {"key": part.key(), "sources": at.sources, "device": at.device, "versions": at.versions}


def expected(part: Part, at: Here, out: Path) -> float:
    """Seconds: what it took on this device before, whatever the code, and some more; else what it says."""
    found = read(out / f"{part.name}.json")
    known = found.get("seconds") if found.get("device") == at.device and found.get("rc") == 0 else None
    return MARGIN * known if known else 60 * part.minutes


def tries(part: Part, at: Here, out: Path) -> int:
    """How often it was begun here and not finished."""
    found = read(out / f"{part.name}{BEGUN}")
    return int(found["tries"]) if same(part, at, found) else 0


def read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def heading(part: Part, at: Here) -> str:
    about = (at.device, at.machine, time.strftime("%Y-%m-%d"), at.versions, f"commit {at.commit}")
    return f"{part.shown()}\n{'; '.join(about)}\n"


def forget(parts: Sequence[Part], asked: Sequence[str], out: Path) -> list[str]:
    """Removes the records of these parts, of all that failed for FAILED, and returns their names."""
    gone = []
    for part in parts:
        record = out / f"{part.name}.json"
        failed = FAILED in asked and read(record).get("rc", 0) != 0
        if record.exists() and (part.name in asked or failed):
            record.unlink()
            gone.append(part.name)
    return gone


def summarise(parts: Sequence[Part], at: Here, out: Path) -> None:
    """A line for each part, of whatever device and code its record is."""
    lines = ["| part | | seconds | device | date | commit |", "|---|---|---|---|---|---|"]
    for part in parts:
        found = read(out / f"{part.name}.json")
        if not found:
            lines.append(f"| {part.name} | not done | - | - | - | - |")
            continue
        seconds = "-" if found["seconds"] is None else f"{found['seconds']:.0f}"
        old = "" if same(part, at, found) else ", by other code" if found["sources"] != at.sources else ", elsewhere"
        sha, _, changes = (found["commit"] or "unknown").partition(" ")
        lines.append(
            f"| {part.name} | {found['said']}{old} | {seconds} | {found['device']} | {found['date']} "
            f"| {f'{sha[:7]} {changes}'.strip()} |"
        )
    (out / "summary.md").write_text("\n".join(lines) + "\n")


def check_clone(out: Path) -> None:
    """Raises UserError where --commit will not be able to commit `out`."""
    if environment.commit() is None:
        raise UserError("--commit: this is not a clone of a git repository.\n  change:   leave --commit out")
    if not out.is_relative_to(ROOT):
        raise UserError(f"--commit: {out} is not in this clone.\n  change:   --out to a folder in {ROOT}")


def commit(out: Path) -> str:
    """Commits what is in `out` and nothing else; returns what there is to say of it."""
    for arguments in (
        ("add", "--", str(out)),
        ("status", "--porcelain", "--", str(out)),
        ("commit", "-m", SUBJECT, "--", str(out)),
    ):
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"git {arguments[0]} failed, nothing is lost: {(done.stderr or done.stdout).strip()}"
        if arguments[0] == "status" and not done.stdout:
            return "Nothing new to commit."
    return f"Committed: {out}"
