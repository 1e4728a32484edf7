"""The encoder's tensors among everything that a file of weights holds: prefixes, networks, heads, buffers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from repre_jax.core.errors import UserError

Arrays = dict[str, np.ndarray]
LeftOut = dict[str, list[str]]  # what it is -> names


@dataclass(frozen=True)
class Layout:
    """Where a framework's files keep their encoders.

    framework: as the config names it, None where the names do not say whose file it is; title: for messages.
    online, target: how the names of a network's tensors begin; None for a network that such files do not have.
    told_by: a pattern that the start of one of the names must fit; several layouts have 'encoder.' or 'encoder_k.'.
    """

    framework: str | None
    title: str
    online: str | None
    target: str | None
    told_by: str = ""

    @property
    def prefixes(self) -> dict[str, str]:
        """Network -> how the names of its tensors begin."""
        both = {"online": self.online, "target": self.target}
        return {network: prefix for network, prefix in both.items() if prefix is not None}


# After 'state_dict.', 'model.' and every 'module.' are taken off (moco-v3 main_lincls.py:177-185, dino main_dino.py:208
# and 243-257, MoBY models/moby.py:45-59, moco moco/builder.py:27-46, simsiam simsiam/builder.py:21-41). The first one
# that fits is taken. MoCo v2's and SimSiam's projectors are their encoder's last layers, MoBY's lies beside it.
LAYOUTS = (
    Layout("moco_v3", "MoCo v3", "base_encoder.", "momentum_encoder."),
    Layout("dino", "DINO", "student.backbone.", "teacher.backbone."),
    Layout("moco_v2", "MoCo v2", "encoder_q.", "encoder_k.", r"encoder_q\.|encoder_k\.(fc|head)\.|queue$"),
    Layout("moby", "MoBY", "encoder.", "encoder_k.", r"encoder_k\.|projector(_k)?\.|queue[12]$"),
    Layout("simsiam", "SimSiam", "encoder.", None, r"predictor\.[0-9]|encoder\.(fc|head)\.[0-9]"),
    Layout(None, "one encoder", "encoder.", None, r"encoder\.(patch_embed|layers\.0\.blocks)\."),
)

# What a file may hold that no encoder has: (pattern from the start of the name, what it is).
LEFT_OUT = (
    (r"(optimizer|lr_scheduler|(fp16_)?scaler|amp|dino_loss)\.", "training state"),
    (r"(projector|projector_k|predictor|student\.head|teacher\.head)\.|queue", "framework heads and queues"),
    (r"(head|fc)\.", "classifier or projector"),
    (r"pooler\.", "transformers' pooling layer"),
    (r".*\.(relative_position_index|attn_mask)$", "index buffers"),
)


def framework_of(state_dict: Mapping[str, np.ndarray]) -> tuple[str | None, tuple[str, ...]]:
    """'moco_v3', 'dino', 'moco_v2', 'moby' or 'simsiam', and which of 'online' and 'target' the file holds.

    (None, ()) for one encoder; (None, ('online',)) where 'encoder.' stands before its names and nothing says whose.
    """
    layout, held = _networks(_without_wrappers(state_dict))
    return (layout.framework, tuple(held)) if layout else (None, ())


def encoder_tensors(state_dict: Mapping[str, np.ndarray], network: str | None) -> tuple[Arrays, LeftOut]:
    """What may belong to the encoder, without prefixes, and the names of everything else.

    network: 'online' or 'target' for files of a framework; for others None, or what framework_of offers. Raises
    UserError when it does not fit the file, when a value is not an array, or when two names are the same but for their
    prefixes.
    """
    arrays, others = _select_network(_without_wrappers(state_dict), network)
    left_out = {"the other network": others} if others else {}
    kept = {}
    for name, array in arrays.items():
        kinds = [kind for pattern, kind in LEFT_OUT if re.match(pattern, name)]
        if kinds:
            left_out.setdefault(kinds[0], []).append(name)
        else:
            kept[name] = array
    return kept, left_out


def _without_wrappers(state_dict: Mapping[str, np.ndarray]) -> Arrays:
    """Takes off 'state_dict.', 'model.' and 'module.', which say how a file was saved and nothing of what it holds."""
    arrays: Arrays = {}
    for name, array in state_dict.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray | np.generic | jax.Array):
            raise UserError(
                f"state_dict[{name!r}] is of type {type(array).__name__}.\n"
                "  expected: NumPy arrays by name; repre_jax.interop.files.read gives them for a file"
            )
        _put(arrays, re.sub(r"(^|\.)module\.", r"\1", re.sub(r"^(state_dict|model)\.", "", name)), np.asarray(array))
    return arrays


def _put(arrays: Arrays, name: str, array: np.ndarray) -> None:
    """A name that is left twice after prefixes are taken off would hide a tensor."""
    if name in arrays:
        raise UserError(f"The state dict holds {name!r} more than once, with and without a prefix.")
    arrays[name] = array


def _select_network(arrays: Arrays, network: str | None) -> tuple[Arrays, list[str]]:
    """The arrays without those of the other network, prefixes taken off, and the names of the other network's."""
    layout, held = _networks(arrays)
    if layout is None and network is None:
        return arrays, []
    if layout is not None and layout.framework is None and network is None:
        (network,) = held
    if layout is None:
        raise UserError(
            f"network is {network!r}, but this file holds one encoder, not the two networks of a framework.\n"
            "  change:   leave network out"
        )
    if network not in held:
        raise UserError(
            f"This is a file of {layout.title}, and network is {network!r}.\n"
            f"  expected: network={' or network='.join(repr(name) for name in held)}"
        )
    kept: Arrays = {}
    others = []
    for key, array in arrays.items():
        if any(key.startswith(prefix) for name, prefix in layout.prefixes.items() if name != network):
            others.append(key)
        else:
            _put(kept, key.removeprefix(layout.prefixes[network]), array)
    return kept, others


def _networks(arrays: Arrays) -> tuple[Layout | None, list[str]]:
    """The layout that this file has, and the networks that it holds."""
    for layout in LAYOUTS:
        held = [name for name, prefix in layout.prefixes.items() if any(key.startswith(prefix) for key in arrays)]
        if held and any(re.match(layout.told_by, key) for key in arrays):
            return layout, held
    return None, []
