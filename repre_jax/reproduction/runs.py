"""What a table is computed from: commands, each with a name, a seed and the run that it starts from."""

import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from repre_jax.core import run_files
from repre_jax.running import resume
from repre_jax.system import command_line

# Keys of a config that say nothing of what comes out: what a run may change on the way, and what a run is started from,
# which stands in the digest by its own.
LEFT_OUT = (*resume.FREE_KEYS, "init_from", "usual", "typed", "published")


MAIN = "main.py"
STEP = "benchmarks.train_step"  # of a clone; what it prints is one JSON object
KEY = "--config."


@dataclass(frozen=True)
class Run:
    """A command. config: a file's name in configs/, without its ending. variants: 'scenes,baseline'. seed: of all that
    is drawn. flags: what follows. parent: the run that --config.init_from names. label: in the run's name in place of
    its flags. program: MAIN, which leaves a folder, or STEP, a measurement that is kept as one."""

    config: str
    variants: str
    seed: int
    flags: tuple[str, ...] = ()
    parent: "Run | None" = None
    label: str = ""
    program: str = MAIN

    @property
    def name(self) -> str:
        """Of its folder in the workdir and of its cell: 'moco_vit_s-scenes-0', 'moco_vit_s-scenes-0--knn-scenes'."""
        own = "-".join(filter(None, (self.config, *self.variants.split(","), self.label)))
        return f"{self.parent.name}--{own}" if self.parent else f"{own}-{self.seed}"

    @property
    def kind(self) -> str:
        """What takes as long: the same command of any seed."""
        return f"{self.parent.kind if self.parent else ''}--{self.config}:{self.variants}{self.label}"

    def lineage(self) -> Iterator["Run"]:
        """This run's parents, the first one first, and itself."""
        if self.parent:
            yield from self.parent.lineage()
        yield self

    def arguments(self, workdir: Path) -> list[str]:
        """What follows the program, for runs below `workdir`."""
        folder = ("--workdir", str(workdir / self.name)) if self.program == MAIN else ("--peer", "off", "--json")
        return [*self._config(workdir), *self.flags, *folder]

    def _config(self, workdir: Path) -> list[str]:
        source = (f"--config.init_from={workdir / self.parent.name}",) if self.parent else ()
        variants = f":{self.variants}" if self.variants else ""
        return ["--config", f"configs/{self.config}.py{variants}", f"--config.seed={self.seed}", *source]

    def command(self, workdir: Path, main: str) -> str:
        """As a line for a shell. main: how main.py is called, 'python main.py'."""
        arguments = shlex.join(self.arguments(workdir))
        if self.program == MAIN:
            return f"{main} {arguments}"
        folder = workdir / self.name
        result = shlex.quote(str(folder / run_files.RESULT))
        return f"mkdir -p {shlex.quote(str(folder))} && python -m {self.program} {arguments} > {result}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config's values by their dotted keys, as JSON has them, but for those that say nothing of the result, and
        for those that nobody has set: a key that comes with a later version changes no digest while it is unset."""
        keys = [flag for flag in self.flags if flag.startswith(KEY)]
        config, _ = command_line.parse([MAIN, *self._config(Path("runs")), *keys])
        known = run_files.flat(resume.plain(config))
        others = [flag for flag in self.flags if not flag.startswith(KEY)]
        settings = {key: value for key, value in known.items() if value is not None and not key.startswith(LEFT_OUT)}
        return settings | ({"flags": others} if others else {})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the settings of this run and of those that it starts from."""
        text = json.dumps([run.settings for run in self.lineage()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
