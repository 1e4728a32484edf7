"""Our parameters <-> the names of Hugging Face transformers, as the files of its hub have them.

Written are the hub's names, such as 'encoder.layer.0.attention.attention.query.weight': transformers 4 has them in its
models, transformers 5 reads and writes them in files, whatever its models call them (5.23
conversion_mapping.py:466-474, 577-588). They are timm's but for the words, and for q, k and v, which are three tensors
here. hub_config.py has the config.json.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from repre_jax.interop import timm
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT

PARTS = ("query", "key", "value")  # of timm's qkv, in this order along its first axis
METADATA = {"format": "pt"}  # of the safetensors file: transformers 4 refuses one that does not say it
PREFIXES = r"^(vit|ijepa|swin)\."  # of the encoder in a model with a head on it

# timm's words -> the hub's, the same in both kinds but for the parts within an attention; each fits once in a name.
WORDS = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
WITHIN = {True: "attention.attention.", False: "attention.self."}  # a ViT's, a Swin's
BACK = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^encoder\.layer\.", "blocks."),
    (r"^encoder\.layers\.", "layers."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.(attention|self)\.", ".attn."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


def dump(params: Mapping[str, Any], encoder: Encoder) -> dict[str, np.ndarray]:
    """NumPy arrays, float32, under the hub's names, equal to the bit to an encoder's parameters.

    Fixed positions become a table, as in timm.dump. A ViT with a class token gets a pooling layer that changes nothing,
    which with hub_config's linear activation makes `pooler_output` our `pooled`; without one, transformers would draw
    that layer at random. Raises UserError when the parameters are not those of the encoder.
    """
    arrays: dict[str, np.ndarray] = {}
    is_vit = isinstance(encoder, ViT)
    for name, array in timm.dump(params, encoder).items():
        before, qkv, kind = name.partition("attn.qkv.")
        if qkv:
            for part, third in zip(PARTS, np.split(array, len(PARTS)), strict=True):
                arrays[_worded(f"{before}{WITHIN[is_vit]}{part}.{kind}", WORDS)] = third
        else:
            arrays[_worded(_merging_in(name, -1).replace(".attn.rel", f".{WITHIN[False]}rel"), WORDS)] = array
    if isinstance(encoder, ViT) and encoder.class_token:
        arrays["pooler.dense.weight"] = np.eye(encoder.width, dtype=np.float32)
        arrays["pooler.dense.bias"] = np.zeros(encoder.width, np.float32)
    return arrays


def are_the_hubs(names: Collection[str]) -> bool:
    """Whether these are the hub's names of a ViT or Swin."""
    return any(re.sub(PREFIXES, "", name) == "embeddings.patch_embeddings.projection.weight" for name in names)


def to_timm(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The hub's names -> timm's, for timm.load: the inverse of dump but for the pooling layer, which stays as it is.

    A classifier becomes timm's 'head'. Parts of q, k and v without the other two keep their names, so that timm.load
    names them.
    """
    theirs = {_worded(re.sub(PREFIXES, "", name), BACK): array for name, array in arrays.items()}
    found: dict[str, np.ndarray] = {}
    for name, array in theirs.items():
        match = re.fullmatch(r"(.*\.attn\.)(query|key|value)\.(weight|bias)", name)
        if match is None:
            found[_merging_in(name, 1)] = array
            continue
        parts = [theirs.get(f"{match[1]}{part}.{match[3]}") for part in PARTS]
        if any(part is None or part.shape != array.shape for part in parts):
            found[name] = array
        else:
            found[f"{match[1]}qkv.{match[3]}"] = np.concatenate([part for part in parts if part is not None])
    return found


def _merging_in(name: str, further: int) -> str:
    """Patches are merged at the end of a stage here, and by timm at the start of the next one."""
    return re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + further}.downsample", name)


def _worded(name: str, words: tuple[tuple[str, str], ...]) -> str:
    for pattern, word in words:
        name = re.sub(pattern, word, name)
    return name
