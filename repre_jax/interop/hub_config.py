"""The JSON files with which Hugging Face transformers builds an encoder and prepares its images."""

from collections.abc import Mapping, Sequence
from typing import Any

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.interop import timm_models
from repre_jax.models import swin, vit
from repre_jax.models.encoders import Encoder
from repre_jax.models.swin import Swin
from repre_jax.models.vit import ViT

FILE, PREPROCESSOR = run_files.CONFIG, "preprocessor_config.json"  # transformers calls it as a run does
RGB = 3
PILLOW = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers of what we resize by, which transformers stores
WHOLE_PIXEL = 255.0

# (class token) -> transformers' name of the model, and its class: ViTModel cannot be without a class token, and
# IJepaModel is the same without one (transformers 5.23 models/ijepa/modular_ijepa.py).
VITS = {True: ("vit", "ViTModel"), False: ("ijepa", "IJepaModel")}


def config(encoder: Encoder, image_size: tuple[int, int]) -> dict[str, Any]:
    """config.json of the model that computes what the encoder does of images [N, channels, *image_size].

    All that differs from transformers' defaults is named, and what older versions have another default for, too.
    ViT: `pooler_output` is our `pooled` with a class token; without one it is None, and the mean of
    `last_hidden_state` is. Swin: `pooler_output` is.
    Raises UserError when transformers' Swin computes something else for images of this size.
    """
    common = {
        "dtype": "float32",
        "image_size": image_size[0] if image_size[0] == image_size[1] else list(image_size),
        "patch_size": encoder.patch,
        "num_channels": encoder.channels,
        "qkv_bias": True,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if isinstance(encoder, ViT):
        model, name = VITS[encoder.class_token]
        pooler = {"pooler_output_size": encoder.width, "pooler_act": "linear"}
        return {
            "architectures": [name],
            "model_type": model,
            **common,
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.heads,
            "intermediate_size": 4 * encoder.width,
            "layer_norm_eps": vit.LAYER_NORM_EPSILON,
            **(pooler if encoder.class_token else {}),
        }
    _check_windows(encoder, image_size)
    return {
        "architectures": ["SwinModel"],
        "model_type": "swin",
        **common,
        "embed_dim": encoder.width,
        "depths": list(encoder.depth),
        "num_heads": list(encoder.heads),
        "window_size": encoder.window,
        "mlp_ratio": 4.0,
        "drop_path_rate": 0.0,
        "use_absolute_embeddings": False,
        "layer_norm_eps": swin.LAYER_NORM_EPSILON,
    }


def preprocessor(pixels: Mapping[str, Any]) -> dict[str, Any]:
    """preprocessor_config.json that prepares images as our evaluations do, but for rounding.

    pixels: `preprocessing` of an export's card. Square images: the shorter side is resized, then the centre cut, as in
    ours. Others: all of an image is resized, so that one of another shape than `image_size` is distorted, where ours
    cuts a box of that shape first. Images of more than 8 bits stay as they are and are normalised from `value_range`.
    """
    height, width = pixels["image_size"]
    before = [round(side / pixels["test_crop"]) for side in (height, width)]
    square = height == width
    return {
        "image_processor_type": "CLIPImageProcessor",  # which has both, resizing the shorter side and cutting
        "do_convert_rgb": pixels["channels"] == RGB,
        "do_resize": True,
        "size": {"shortest_edge": before[0]} if square else {"height": before[0], "width": before[1]},
        "resample": PILLOW[pixels["interpolation"]],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_normalize": True,
        **_scales(pixels["mean"], pixels["std"], pixels.get("value_range")),
    }


def _scales(mean: Sequence[float], std: Sequence[float], ranges: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """From 0..255, or from the ranges, one for all channels or one for each."""
    if not ranges:
        return {
            "do_rescale": True,
            "rescale_factor": 1 / WHOLE_PIXEL,
            "image_mean": list(mean),
            "image_std": list(std),
        }
    each = list(ranges) * (len(mean) if len(ranges) == 1 else 1)
    return {
        "do_rescale": False,
        "image_mean": [low + (high - low) * m for (low, high), m in zip(each, mean, strict=True)],
        "image_std": [(high - low) * s for (low, high), s in zip(each, std, strict=True)],
    }


def _check_windows(encoder: Swin, image_size: tuple[int, int]) -> None:
    """Raises UserError where a map is smaller than the window: transformers then adds the bias of the whole window to
    fewer tokens, and stops. Padding and shifts are as ours everywhere else."""
    windows = timm_models.windows(encoder, image_size)
    stage = next((number for number, side in enumerate(windows, start=1) if side < encoder.window), None)
    if stage is not None:
        raise UserError(
            f"transformers has no Swin for images of {image_size[0]} x {image_size[1]} pixels and windows of "
            f"{encoder.window} patches.\n"
            f"  given:    the map of stage {stage}, whose shorter side is {windows[stage - 1]}\n"
            "  expected: maps no smaller than the window in every stage\n"
            "  change:   --format=timm, where such maps are known, or npz, which this project reads"
        )
