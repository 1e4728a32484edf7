"""What a measurement of a trained segmentation takes from its run, what it has otherwise, and what it cannot change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.pretrained.backbone import tuples
from repre_jax.probing import evaluations, segmenting
from repre_jax.running import resume
from repre_jax.system import terminal

# The run's unless somebody sets them. Those of a data set are not the run's where it is another data set.
OF_DATA_SET = ("data.train_split", "data.test_split", "data.image_key", "data.label_map_key", "data.num_classes")
TAKEN = (
    *("data.name", "data.dir", *OF_DATA_SET, "data.first_value", "data.value_range", "data.mean", "data.std"),
    *("segment.test_size", "segment.test_stride", "segment.test_scales", "segment.test_flip", "dtype"),
)
NO_DEPARTURES = ("data.dir",)  # where it lies
# The run's, whatever else is set; groups too.
TRAINED = (
    *("init_from", "network", "seed", "encoder", "data.image_size", "data.channels"),
    *(f"segment.{key}" for key in segmenting.TRAINED),
)
# A measurement's own keys, and groups of them.
OWN = (
    *("evaluate", "step", "batch_size", "data.workers", "data.max_unreadable", "encoder.attention", "deterministic"),
    *("compile_cache", "may_change", "distributed", "typed", "usual"),
)


@dataclass(frozen=True)
class Asked:
    """typed: the keys of the command line. usual: values of keys, as JSON has them, that nobody sets."""

    typed: frozenset[str]
    usual: Mapping[str, Any]

    def sets(self, key: str, value: Any) -> bool:
        """Whether the command line, a variant or a config file of one's own has set a key, which has this value."""
        return key in self.typed or value != self.usual.get(key)


def asked(config: ConfigDict) -> Asked:
    """Takes out of a config of configs/segment.py what it says of the command line, so that it is not stored."""
    settings = resume.plain(config)
    found = Asked(frozenset(settings.get("typed", ())), run_files.flat(settings.get("usual", {})))
    with config.unlocked():
        for key in {"typed", "usual"} & set(config):
            del config[key]
    return found


def take_over(config: ConfigDict, trained: ConfigDict, run: Path, was_asked: Asked) -> list[str]:
    """Completes the config of a measurement with that of the run; returns what it has otherwise, a line each, for
    result.json: "data.test_split 'test' instead of 'validation'".

    Says where a variant or a config file has something else for what was trained. Raises UserError where the command
    line has.
    """
    ours, theirs = run_files.flat(resume.plain(config)), run_files.flat(resume.plain(trained))
    _refuse_others(ours, theirs, run, was_asked)
    of_run = {key: theirs[key] for key in ours if key in theirs and _among(key, TRAINED) and not _among(key, OWN)}
    others = [
        f"{key} is {value}, not {ours[key]}"
        for key, value in of_run.items()
        if ours[key] is not None and was_asked.sets(key, ours[key]) and not config_paths.same(key, value, ours[key])
    ]
    departures, another = [], False
    for key in TAKEN:
        if not was_asked.sets(key, ours[key]):
            if key in theirs and not (another and key in OF_DATA_SET):
                of_run[key] = theirs[key]
        elif not config_paths.same(key, theirs.get(key), ours[key]) and key not in NO_DEPARTURES:
            departures.append(evaluations.instead_of(key, ours[key], theirs.get(key)))
            another = another or key == "data.name"
    config.update_from_flattened_dict({key: tuples(value) for key, value in of_run.items()})
    if others:
        terminal.warn(f"What was trained is measured as it was trained: {'; '.join(others)}.")
    return departures


def _refuse_others(ours: Mapping[str, Any], theirs: Mapping[str, Any], run: Path, was_asked: Asked) -> None:
    """Raises UserError for keys of the command line that change nothing in a measurement, and are not as the run has
    them."""
    free = (*OWN, *TAKEN)
    wrong = [
        key
        for key in sorted(was_asked.typed)
        if key in ours and not _among(key, free) and not config_paths.same(key, theirs.get(key), ours[key])
    ]
    if wrong:
        raise UserError(
            f"A measurement does not change how {run} was trained:\n"
            + "".join(f"  {key}: {theirs.get(key)!r}, given {ours[key]!r}\n" for key in wrong)
            + "  expected: what a measurement can have otherwise, keys marked * in configs/segment.py\n"
            + f"  change:   leave out {', '.join(f'--config.{key}' for key in wrong)}"
        )


def _among(key: str, names: tuple[str, ...]) -> bool:
    """names: keys, and groups of them."""
    return any(f"{key}.".startswith(f"{name}.") for name in names)
