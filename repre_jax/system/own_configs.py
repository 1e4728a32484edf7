"""A config file of one's own, brought up to date: keys under their present names, and those that it lacks.

It may have been written for an older version, or from scratch. What it does not say stands in the shipped config of its
task; a key that only the file has is read by nobody, mostly because its name is not quite right.
"""

import difflib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.core.renamed_keys import RENAMED
from repre_jax.system import shipped, terminal

CONFIGS = "configs"
OF_TASK = {"pretrain": "base", "knn": "knn", "linear": "linear", "finetune": "finetune", "figures": "figures"}
OF_FRAMEWORK = "framework"  # a group whose keys depend on one of them, its name
SHOWN = 8  # keys that a note names


def bring_up_to_date(config: ConfigDict, path: Path) -> bool:
    """Renames old keys and adds missing ones, and says so; whether anything was changed. path: for messages.

    A config of an unknown task stays as it is. Raises UserError where a group of keys is something else.
    """
    renamed = _rename(config)
    file = OF_TASK.get(str(config.get("task")))
    if file is None:
        return renamed
    wanted = reference(file)
    known = run_files.flat(wanted.to_dict())
    missing = list(_add(config, wanted, path))
    if missing:
        whose = shipped.shown(f"{CONFIGS}/{file}.py")
        terminal.say(f"Note: {path} lacks keys, which become those of {whose}: {_listed(missing)}.")
    for key in _unread(config, wanted):
        last = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
        close = last[:1] or difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        terminal.warn(f"Warning: nothing reads the key {key} of {path}.{hint}")
    return renamed or bool(missing)


def reference(name: str) -> ConfigDict:
    """What a shipped config file returns without variants; it and what it imports is never a file of the user's."""
    before = {key: module for key, module in sys.modules.items() if key.split(".")[0] == CONFIGS}
    folder = shipped.root() / CONFIGS
    for key in before:
        del sys.modules[key]
    package = ModuleSpec(CONFIGS, None, is_package=True)
    package.submodule_search_locations = [str(folder)]
    sys.modules[CONFIGS] = importlib.util.module_from_spec(package)
    try:
        get_config: Callable[[], ConfigDict] = importlib.import_module(f"{CONFIGS}.{name}").get_config
        return get_config()
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] == CONFIGS]:
            del sys.modules[key]
        sys.modules.update(before)


def _rename(config: ConfigDict) -> bool:
    """Gives keys that had another name before their present one; whether there were any."""
    known = run_files.flat(config.to_dict())
    found = [old for old in RENAMED if old in known]
    for old in found:
        terminal.say(f"Note: the config's key {old} is now called {RENAMED[old]}.")
        with config.unlocked():
            config.update_from_flattened_dict({RENAMED[old]: known[old]})
            group, _, last = old.rpartition(".")
            del (config[group] if group else config)[last]
    return bool(found)


def _add(config: ConfigDict, wanted: ConfigDict, path: Path, group: str = "") -> Iterator[tuple[str, Any]]:
    """Adds what `config` lacks of `wanted`, recursively; yields the keys and their values."""
    for key in wanted:
        name = f"{group}{key}"
        if key not in config:
            with config.unlocked():
                config[key] = wanted.get_ref(key) if not isinstance(wanted[key], ConfigDict) else wanted[key]
            yield name, wanted[key]
        elif isinstance(wanted[key], ConfigDict):
            if not isinstance(config[key], ConfigDict):
                raise UserError(f"{name} is {config[key]!r} in {path}.\n  expected: keys, {', '.join(wanted[key])}")
            if name != OF_FRAMEWORK:
                yield from _add(config[key], wanted[key], path, f"{name}.")


def _unread(config: ConfigDict, wanted: ConfigDict, group: str = "") -> Iterator[str]:
    """Keys of `config` that `wanted` does not have, whole groups by their name."""
    for key in config:
        if key not in wanted:
            yield f"{group}{key}"
        elif isinstance(wanted[key], ConfigDict) and f"{group}{key}" not in (OF_FRAMEWORK, "published"):
            yield from _unread(config[key], wanted[key], f"{group}{key}.")


def _listed(missing: list[tuple[str, Any]]) -> str:
    """For example 'knn.times=10, compile_cache=True, augment (12 keys)'."""
    words = [f"{k} ({len(v)} keys)" if isinstance(v, ConfigDict) else f"{k}={v!r}" for k, v in missing[:SHOWN]]
    return ", ".join([*words, *([f"and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else [])])
