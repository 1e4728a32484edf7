"""Cityscapes from its two official archives, for `python -m repre_jax.tools.prepare cityscapes`."""

import argparse
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.data import reading
from repre_jax.data.cityscapes import archives
from repre_jax.data.cityscapes import builder as cityscapes
from repre_jax.system import terminal
from repre_jax.tools.preparation import written


def prepare(arguments: argparse.Namespace, root: Path) -> str:
    """Writes it below `root`; returns what to say. Raises UserError where it cannot."""
    name = f"{cityscapes.NAME}/{cityscapes.CONFIG}"
    written.refuse_taken(root, name, cityscapes.VERSION)
    found = archives.find(arguments.origin)
    for split, pairs in found.splits.items():
        terminal.say(f"  {split:<11} {len(pairs):>9,} images with label maps in {arguments.origin}")
    if "train" not in found.splits or (found.missing and not arguments.partial):
        lines = "".join(f"\n  missing:  {line}" for line in found.missing)
        raise UserError(
            f"Cityscapes is not whole in {arguments.origin}.{lines}\n"
            "  fetch:    leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) from\n"
            "            https://www.cityscapes-dataset.com (free, with an account) into that folder"
            + ("\n  change:   --partial, to go on with what is there" if "train" in found.splits else "")
        )
    reader = reading.Reader(archives.checked, skip=arguments.skip_unreadable)
    written.write(cityscapes.Cityscapes(found, reader, **written.place(root)), found.size(), reader)
    command = written.command(root, "configs/segment.py", **{"data.name": name}, init_from="RUN")
    return f"Written. To train on it:  {command}"
