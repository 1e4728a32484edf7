"""Encoders by name."""

import inspect
from typing import Any

from repre_jax.core.errors import UserError
from repre_jax.core.renamed_keys import renamed
from repre_jax.models import swin, vit
from repre_jax.models.swin import Swin
from repre_jax.models.vit import ViT
from repre_jax.system import terminal

Encoder = ViT | Swin

# timm's vit_{tiny,small,base,large}_patch16_224 and swin_{tiny,small,base}_patch4_window7_224.
VITS: dict[str, dict[str, Any]] = {
    "vit_ti": {"width": 192, "depth": 12, "heads": 3},
    "vit_s": {"width": 384, "depth": 12, "heads": 6},
    "vit_b": {"width": 768, "depth": 12, "heads": 12},
    "vit_l": {"width": 1024, "depth": 24, "heads": 16},
}
SWINS: dict[str, dict[str, Any]] = {
    "swin_t": {"width": 96, "depth": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
    "swin_s": {"width": 96, "depth": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
    "swin_b": {"width": 128, "depth": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
}
MOCO_V3_HEADS = {"vit_s": 12}  # moco-v3 vits.py:115-118; it publishes S and B only, the others keep timm's


def build_encoder(name: str, **overrides: Any) -> Encoder:
    """The encoder `name` (vit_ti vit_s vit_b vit_l swin_t swin_s swin_b), a Flax Linen module.

    Without overrides it is timm's model of that name for 224 x 224 pixels, without the classifier: vit_s has 6 heads
    and learned positions. Overrides:
      both: width, depth, heads (Swin: one number a stage), patch, image_size (224, 224), channels (of the images, 3),
            drop_path (0), remat and remat_mlp (False), dtype ('float32'; 'bfloat16' for matrix products, parameters are
            float32), attention ('xla'; 'cudnn' on NVIDIA GPUs in bfloat16, not for Swin; 'pallas' on
            both and on TPUs; 'auto', the default of a config's, is settled when a run starts)
      ViT:  variant ('deit', 'dino', 'moco_v3', 'sincos': models/vit.py), pyramid_levels (K = 4), pyramid_blocks (in
            place of levels spread evenly: rising, from 1), class_token (True); learned positions belong to image_size
      Swin: window (7)

    encoder.init(key, images)['params'] gives parameters, and
    encoder.apply({'params': params}, images, train=False) maps images [N, H, W, channels] float32, normalised, to an
    EncoderOutput. With D the width, and for Swin-T D = 96:
      ViT:  pooled and cls [N, D] (cls None without a class token),
            tokens [N, H/patch * W/patch, D], pyramid of K maps [N, H/patch, W/patch, D]
      Swin: pooled [N, 8 D], cls None, tokens [N, H/32 * W/32, 8 D], pyramid [N, H/4, W/4, D], [N, H/8, W/8, 2 D],
            [N, H/16, W/16, 4 D], [N, H/32, W/32, 8 D], odd sides rounded up
    train=True drops paths and wants rngs={'drop_path': key} unless drop_path is 0. attention_of=n adds the attention
    weights of block n.

    Raises UserError for an unknown name or override, or numbers that do not fit together.
    """
    if name not in VITS | SWINS:
        raise UserError(f"Unknown encoder {name!r}.\n  expected: {', '.join(VITS | SWINS)}")
    overrides = {_present_name(setting): value for setting, value in overrides.items()}
    build = vit.build if name in VITS else swin.build
    known = inspect.signature(build).parameters
    for setting in overrides:
        if setting not in known:
            raise UserError(f"{name} has no setting {setting!r}.\n  expected: {', '.join(known)}")
    settings = (VITS | SWINS)[name]
    if overrides.get("variant") == "moco_v3" and name in MOCO_V3_HEADS:
        settings = settings | {"heads": MOCO_V3_HEADS[name]}
    return build(**settings | overrides)


def _present_name(setting: str) -> str:
    """Of a setting that may have had another name before."""
    name = renamed(f"encoder.{setting}").removeprefix("encoder.")
    if name != setting:
        terminal.say(f"Note: the encoder's setting {setting} is now called {name}.")
    return name


def describe(encoder: Encoder) -> str:
    """For example 'ViT (moco_v3), width 384, 12 blocks, 12 heads, patch 16, pyramid of blocks 3-6-9-12'."""

    def joined(numbers: tuple[int, ...]) -> str:
        return "-".join(str(number) for number in numbers)

    if isinstance(encoder, ViT):
        kind, depth, heads = f"ViT ({encoder.variant})", str(encoder.depth), str(encoder.heads)
        own = f"pyramid of blocks {joined(encoder.pyramid_blocks)}"
        own += "" if encoder.class_token else ", no class token"
    else:
        kind, depth, heads = "Swin", joined(encoder.depth), joined(encoder.heads)
        own = f"window {encoder.window}"
    more = f", drop path {encoder.drop_path:g}" if encoder.drop_path else ""
    more += ", rematerialised" if encoder.remat else ""
    return f"{kind}, width {encoder.width}, {depth} blocks, {heads} heads, patch {encoder.patch}, {own}{more}"
