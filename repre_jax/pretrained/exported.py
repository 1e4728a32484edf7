"""An exported encoder as Python objects, for programs that use it without a config: repre_jax.load_encoder."""

import shlex
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.models.encoders import Encoder
from repre_jax.pretrained import weight_file
from repre_jax.pretrained.backbone import tuples
from repre_jax.system import terminal


def load_encoder(path: str | Path) -> tuple[Encoder, dict[str, Any], dict[str, Any]]:
    """The Flax module, its parameters (NumPy, float32) and the card of a file that tools/export.py wrote.

    The module computes in float32, without drop path and rematerialisation: as it is used, not trained.
    Raises UserError when the file or its card is missing, damaged, or one does not belong to the other.
    """
    path = config_paths.absolute(path)
    if run_files.is_folder(path):
        raise UserError(
            f"{path} is a folder.\n"
            "  expected: a file that python -m repre_jax.tools.export wrote\n"
            f"  change:   of a run: python -m repre_jax.tools.export {shlex.quote(str(path))} writes that file;\n"
            "            of an export for transformers: the path of model.safetensors in it"
        )
    source = weight_file.read(path)
    if not source.card:
        raise UserError(
            f"{path} has no card beside it, {weight_file.card_of(path).name}, which says what encoder it is.\n"
            "  expected: a file that python -m repre_jax.tools.export wrote, and its card in the same folder\n"
            "  change:   keep both together; without a card use models.build_encoder and interop.timm.load"
        )
    config = ConfigDict(tuples(source.card["config"]))
    config.dtype = "float32"
    config.encoder.update(drop_path=0.0, remat=False, attention="xla")
    encoder = methods.encoder_of(config)
    with terminal.quiet(True):
        params = source.load(encoder, augmentation.image_size(config))
    return encoder, params, source.card
