"""The embedded data sets, digits and scenes: which of them a name means, and that it is there once it is asked for."""

import os
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.data import digits, locate
from repre_jax.data.scenes import builder as scenes


def prepare(name: str, root: Path) -> bool:
    """Whether it is an embedded data set, which is written then where it is not there yet.

    Raises UserError where neither it nor another version that is asked for is there, or nothing can be written.
    """
    plain, _, wanted = name.partition(":")
    kind, _, config = plain.partition("/")
    if plain != digits.Digits.name and kind != scenes.NAME:
        return False
    there = locate.versions(root / plain)
    if there and kind == scenes.NAME and config not in scenes.CONFIGS:
        return False  # somebody's own, from before there was one of this name
    version = str(digits.Digits.VERSION) if kind == digits.Digits.name else scenes.VERSIONS.get(config)
    if wanted and version and not locate.matches(version, wanted):
        if not there:
            raise UserError(
                f"Data set {plain} is not there in version {wanted}: {root / plain}.\n"
                f"  expected: {version}, which is written on first use\n"
                f"  change:   {locate.flag('data.name', plain)}"
            )
        return True
    try:
        if kind == digits.Digits.name:
            digits.prepare(os.fspath(root))
        else:
            scenes.prepare(config, os.fspath(root))
    except OSError as error:
        raise UserError(
            f"The {kind} could not be written to {root}: {error}.\n"
            "  change:   --config.data.dir=DIR or the variable TFDS_DATA_DIR, to a folder that you can write to"
        ) from None
    return True
