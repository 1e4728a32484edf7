"""TFDS's syntax of splits, such as 'train[:75%]+test', for a folder of images; data/splits.py finds its splits."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tensorflow_datasets as tfds

from repre_jax.data.folder import ImageFolder


def take(splits: Mapping[str, ImageFolder], spec: str) -> ImageFolder:
    """The records that `spec` names: 'train', 'train[:75%]', 'train+validation', 'train[:5]+train[9:]' or 'all'.

    Parts of one split take its records in one fixed random order, so parts with other bounds share none. A sum has its
    parts one after the other, and labels where each of them has.
    Raises what TFDS raises for a split that is not there: KeyError, ValueError or AssertionError.
    """
    parts = []
    for each in _absolute(splits, spec):
        name, bounds = str(each.splitname), ["" if bound is None else str(bound) for bound in (each.from_, each.to)]
        parts.append(splits[name].part(f"{name}[{':'.join(bounds)}]" if any(bounds) else name, name))
    return parts[0] if len(parts) == 1 else _sum(parts)


def named(splits: Mapping[str, ImageFolder], spec: str) -> list[str]:
    """The names of the splits that `spec` takes records of, each once. Raises as `take` does."""
    return list(dict.fromkeys(str(each.splitname) for each in _absolute(splits, spec)))


def _absolute(splits: Mapping[str, ImageFolder], spec: str) -> list[Any]:
    whole = {name: tfds.core.SplitInfo(name=name, shard_lengths=[len(s)], num_bytes=0) for name, s in splits.items()}
    return tfds.core.ReadInstruction.from_spec(spec).to_absolute(whole)


def _sum(parts: list[ImageFolder]) -> ImageFolder:
    """Files are named from the folder that holds all parts."""
    root = os.path.commonpath([part.root for part in parts])
    files: list[str] = []
    labels: list[int | None] = []
    for part in parts:
        below = os.path.relpath(part.root, root)
        files += [name if below == "." else f"{below}/{name}" for name in part.files]
        labels += part.labels or [None] * len(part)
    known = tuple(label for label in labels if label is not None)
    return replace(parts[0], root=root, files=tuple(files), labels=known if len(known) == len(files) else None)
