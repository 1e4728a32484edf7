"""What a measurement of a trained head takes from its run, what it has otherwise, and what it cannot change."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import Interrupted, Stopped, UserError
from repre_jax.pretrained.backbone import tuples
from repre_jax.probing import detecting, evaluations, segmenting
from repre_jax.running import lifecycle, memory, resume
from repre_jax.running.lifecycle import Session, ShouldStop
from repre_jax.running.signals import StopRequest
from repre_jax.system import command_line, environment, shipped, terminal

NO_DEPARTURES = ("data.dir",)  # where it lies
# A measurement's own keys, and groups of them.
OWN = (
    *("evaluate", "step", "batch_size", "data.workers", "data.max_unreadable", "encoder.attention", "deterministic"),
    *("compile_cache", "may_change", "distributed", "typed", "usual"),
)


@dataclass(frozen=True)
class Keys:
    """Of the config of one task; groups too.

    file: that has them. of_data_set: the run's unless somebody sets them, or it is another data set. taken: the run's
    unless somebody sets them, whatever the data set. trained: the run's, whatever else is set.
    """

    file: str
    of_data_set: tuple[str, ...]
    taken: tuple[str, ...]
    trained: tuple[str, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """Those that a measurement may have otherwise than its run, in the order in which it says so."""
        of_data = tuple(key for key in self.taken if key.startswith("data."))
        others = tuple(key for key in self.taken if key not in of_data)
        return ("data.name", "data.dir", *self.of_data_set, *of_data, *PIXELS, *others, "dtype")


PIXELS = ("data.value_range", "data.mean", "data.std")
OF_FIGURE = ("name", "dir", "train_split", "test_split", "image_key", "label_map_key", "num_classes", "first_value")
SPLITS = ("data.train_split", "data.test_split")
ENCODER = ("init_from", "network", "seed", "encoder", "data.image_size", "data.channels")
OF_TASKS = {
    "segment": Keys(
        "configs/segment.py",
        (*SPLITS, "data.image_key", "data.label_map_key", "data.num_classes"),
        ("data.first_value", *(f"segment.test_{key}" for key in ("size", "stride", "scales", "flip"))),
        (*ENCODER, *(f"segment.{key}" for key in segmenting.TRAINED)),
    ),
    "detect": Keys(
        "configs/detect.py",
        SPLITS,
        tuple(f"detect.test_{key}" for key in detecting.TESTED),
        (*ENCODER, *(f"detect.{key}" for key in detecting.TRAINED)),
    ),
}


@dataclass(frozen=True)
class Asked:
    """typed: the keys of the command line. usual: values of keys, as JSON has them, that nobody sets."""

    typed: frozenset[str]
    usual: Mapping[str, Any]

    def sets(self, key: str, value: Any) -> bool:
        """Whether the command line, a variant or a config file of one's own has set a key, which has this value."""
        return key in self.typed or value != self.usual.get(key)


def asked(config: ConfigDict) -> Asked:
    """Takes out of a config of these tasks what it says of the command line, so that it is not stored."""
    settings = resume.plain(config)
    found = Asked(frozenset(settings.get("typed", ())), run_files.flat(settings.get("usual", {})))
    with config.unlocked():
        for key in {"typed", "usual"} & set(config):
            del config[key]
    return found


def source(config: ConfigDict, workdir: Path) -> Path:
    """The run that config.evaluate names. Raises UserError where that is the workdir."""
    run = config_paths.absolute(config.evaluate)
    if run == workdir:
        raise UserError(f"evaluate is the workdir itself, {workdir}.\n  change:   --workdir, to another folder")
    return run


def rows(departures: Sequence[str]) -> list[tuple[str, str]]:
    """Of the table at the start: what is otherwise than in the run."""
    return [("" if number else "other than the run", line) for number, line in enumerate(departures)]


@contextlib.contextmanager
def measuring(session: Session, mesh: Mesh, *, images: int, dtype: str) -> Iterator[ShouldStop]:
    """Watches what is done in it, and gives it what to ask before each batch. images: that a device gets at once.

    Raises Stopped after a signal; a measurement keeps nothing of what it has begun."""
    with session.watched(mesh.size) as watchdog, StopRequest(mesh) as stop:
        try:
            with memory.explained(memory.of_images, images=images, dtype=dtype):
                yield lifecycle.asking(stop, watchdog, "Measuring")
        except Interrupted as interrupted:
            again = f"The same command begins again:\n  {environment.command()}"
            raise Stopped(f"Stopped after {interrupted}; nothing is kept.\n  {again}", stop.number) from None


def take_over(config: ConfigDict, trained: ConfigDict, run: Path, was_asked: Asked) -> list[str]:
    """Completes the config of a measurement with that of the run; returns what it has otherwise, a line each, for
    result.json: "data.test_split 'test' instead of 'validation'".

    Says where a variant or a config file has something else for what was trained. Raises UserError where the command
    line has.
    """
    ours, theirs = run_files.flat(resume.plain(config)), run_files.flat(resume.plain(trained))
    keys = OF_TASKS[config.task]
    _refuse_others(keys, ours, theirs, run, was_asked)
    of_run = {key: theirs[key] for key in ours if key in theirs and _among(key, keys.trained) and not _among(key, OWN)}
    others = [
        f"{key} is {value}, not {ours[key]}"
        for key, value in of_run.items()
        if ours[key] is not None and was_asked.sets(key, ours[key]) and not config_paths.same(key, value, ours[key])
    ]
    departures, another = [], False
    for key in keys.free:
        if not was_asked.sets(key, ours[key]):
            if key in theirs and not (another and key in keys.of_data_set):
                of_run[key] = theirs[key]
        elif not config_paths.same(key, theirs.get(key), ours[key]) and key not in NO_DEPARTURES:
            departures.append(evaluations.instead_of(key, ours[key], theirs.get(key)))
            another = another or key == "data.name"
    config.update_from_flattened_dict({key: tuples(value) for key, value in of_run.items()})
    if others:
        terminal.warn(f"What was trained is measured as it was trained: {'; '.join(others)}.")
    return departures


def config_of(trained: ConfigDict, run: Path, flags: Sequence[str]) -> ConfigDict:
    """The config of a measurement of a run that is asked for by these flags, --config.KEY=VALUE, and by nothing else:
    for tools and figures, which read other data as config.evaluate does.

    Raises UserError for a flag that is wrong, or would change what was trained.
    """
    config, _ = command_line.parse([run.name, f"--config={shipped.root() / OF_TASKS[trained.task].file}", *flags])
    take_over(config, trained, run, asked(config))
    return config


def flags_of_figure(config: ConfigDict) -> list[str]:
    """Those that config_of takes for the data that a config of figures asks for."""
    return [f"--config.data.{key}={config.data[key]}" for key in OF_FIGURE if config.data.get(key) is not None]


def _refuse_others(keys: Keys, ours: Mapping[str, Any], theirs: Mapping[str, Any], run: Path, was_asked: Asked) -> None:
    """Raises UserError for keys of the command line that change nothing in a measurement, and are not as the run has
    them."""
    free = (*OWN, *keys.free)
    wrong = [
        key
        for key in sorted(was_asked.typed)
        if key in ours and not _among(key, free) and not config_paths.same(key, theirs.get(key), ours[key])
    ]
    if wrong:
        raise UserError(
            f"A measurement does not change how {run} was trained:\n"
            + "".join(f"  {key}: {theirs.get(key)!r}, given {ours[key]!r}\n" for key in wrong)
            + f"  expected: what a measurement can have otherwise, keys marked * in {keys.file}\n"
            + f"  change:   leave out {', '.join(f'--config.{key}' for key in wrong)}"
        )


def _among(key: str, names: tuple[str, ...]) -> bool:
    """names: keys, and groups of them."""
    return any(f"{key}.".startswith(f"{name}.") for name in names)
