"""A file of weights to start from, and the card beside it that tools/export.py writes: what the file cannot say."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repre_jax.builders import augmentation
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.core.renamed_keys import with_new_names
from repre_jax.frameworks import FRAMEWORKS
from repre_jax.interop import files, hub, state_dicts, timm, timm_names
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT

CARD = ".json"  # what the name of a card has behind that of its file
OF_CARD = ("framework", "branch", "step", "sha256", "preprocessing", "config")  # keys that make a JSON file a card


@dataclass(frozen=True)
class WeightFile:
    """What a file holds and whose it is.

    arrays: by their names in the file; of the hub's by timm's. sha256: of the file, hexadecimal. card: what is written
    beside it, {} for none.
    framework, network, step: of the run, as its card says, or the published file itself; None where nobody says.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    sha256: str
    card: dict[str, Any]
    framework: str | None
    network: str | None

    @property
    def step(self) -> int | None:
        return self.card.get("step")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Of the images that its encoder was trained on, as the card says."""
        return augmentation.image_size(ConfigDict(self.card["config"])) if self.card else None

    def __str__(self) -> str:
        """For example 'the target of dino, step 800, in FILE'."""
        whose = f"the {self.network} encoder of {self.framework}" if self.framework else "the encoder"
        return f"{whose}{f', step {self.step}' if self.step is not None else ''}, in {self.path}"

    def load(self, encoder: Encoder, image_size: tuple[int, int]) -> dict[str, Any]:
        """The encoder's parameters, float32, in NumPy arrays. image_size: of the images that the file's encoder saw.

        Positions of another size are resized. Prints what was loaded. Raises UserError when they do not fit.
        """
        self._check_grid(encoder)
        network = None if self.card else self.network  # of a file with a card it is the card that says whose it is
        try:
            return parameters(self.arrays, encoder, image_size, network, sure=bool(self.card))
        except UserError as error:
            hint = "\n  change:   --config.encoder.name, variant, width, depth ... to those of the file"
            raise UserError(f"{error}\n  given:    {self.path}{'' if 'change:' in str(error) else hint}") from None

    def _check_grid(self, encoder: Encoder) -> None:
        """Learned positions of a rectangle look like those of another shape, and only square ones are resized."""
        theirs = self.image_size
        learned = isinstance(encoder, ViT) and not encoder.fixed_positions
        if theirs and learned and len(set(theirs)) == 2 and theirs != encoder.image_size:
            raise UserError(
                f"{self.path} has learned positions for images of {theirs[0]} x {theirs[1]} pixels.\n"
                f"  change:   --config.data.image_size='{theirs}'"
            )


def parameters(
    named: dict[str, np.ndarray],
    encoder: Encoder,
    image_size: tuple[int, int],
    network: str | None = None,
    *,
    sure: bool = False,
) -> dict[str, Any]:
    """Parameters from what `arrays` gives, under timm's names, a framework's or our own paths: interop.timm.load."""
    if timm_names.are_ours(named):
        named = timm_names.renamed(named)
    return timm.load(named, encoder, network=network, resize=True, image_size=image_size, sure=sure)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What files.read gives, but under timm's names where the file has those of Hugging Face's hub."""
    found = files.read(path)
    return hub.to_timm(found) if hub.are_the_hubs(found) else found


def read(path: Path, network: str | None = None) -> WeightFile:
    """network: 'online' or 'target'; else the card's, or of a published file with both the one its authors evaluate.

    Raises UserError when the file cannot be read, is not the one that its card describes, or has no such network.
    """
    found, digest, card = arrays(path), sha256(path), read_card(path)
    if card and card["sha256"] != digest:
        raise UserError(
            f"{path} is not the file that {card_of(path)} describes: its SHA-256 differs.\n"
            "  change:   export it again, or take the card away and set encoder.*"
        )
    if card:
        if network not in (None, card["branch"]):
            raise UserError(
                f"{path} holds the {card['branch']} encoder, not the {network} one.\n  change:   leave network out"
            )
        return WeightFile(path, found, digest, card, card["framework"], card["branch"])
    framework, held = state_dicts.framework_of(found)
    if network is None and held:
        usual = evaluated_network(framework)
        network = usual if usual in held else held[0]
    if network is not None and network not in held:
        what = "one encoder, and no networks"
        if framework:
            what = f"a file of {framework} with the {held[0]} encoder alone"
        raise UserError(f"network is {network!r}, but {path} holds {what}.\n  change:   leave network out")
    return WeightFile(path, found, digest, {}, framework, network)


def evaluated_network(framework: str | None) -> str:
    """'online' or 'target': which network the framework's authors evaluate; of an unknown one the online network."""
    return FRAMEWORKS[framework].evaluated if framework in FRAMEWORKS else "online"


def card_of(path: Path) -> Path:
    """Where the card of a file lies."""
    return path.with_name(path.name + CARD)


def read_card(path: Path) -> dict[str, Any]:
    """The card beside a file of weights, {} when there is none. Raises UserError when it is not whole."""
    if not run_files.exists(card_of(path)):
        return {}
    card = run_files.read_json(card_of(path), OF_CARD)
    config = with_new_names(card["config"] or {}) if card else None
    if not card or not config or card["branch"] not in ("online", "target") or not {"encoder", "data"} <= set(config):
        raise UserError(
            f"{card_of(path)} is damaged, or no card of {path.name}.\n"
            "  change:   export the file again, or take the card away and set encoder.*"
        )
    return card | {"config": config}


def sha256(path: Path) -> str:
    """Of the file's content, hexadecimal."""
    with run_files.open_file(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
