"""Writes hub.json: the tensors and settings that Hugging Face transformers itself writes of small encoders.

  python tests/golden/hub.py    with requirements-transformers.txt, as `make hub` installs in .venv-hub

Shares nothing with repre_jax: models are built by transformers' classes, and saved by save_pretrained.
"""

import json
import tempfile
from pathlib import Path

import transformers
from safetensors import safe_open
from weights import CASES

HERE = Path(__file__).resolve().parent


def models() -> dict[str, transformers.PreTrainedModel]:
    """For the encoders of tests/golden/encoders.py."""
    vit, swin = CASES["deit"][0], CASES["swin"][0]
    common = {
        "hidden_size": vit.width,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "intermediate_size": 4 * vit.width,
        "layer_norm_eps": 1e-6,
        "image_size": vit.grid[0] * vit.patch,
        "patch_size": vit.patch,
        "num_channels": vit.channels,
    }
    of_swin = transformers.SwinConfig(
        embed_dim=swin.width, depths=list(swin.depth), num_heads=list(swin.heads), window_size=swin.window,
        image_size=[48, 66], patch_size=swin.patch, num_channels=swin.channels, drop_path_rate=0.0,
    )  # fmt: skip
    return {
        "deit": transformers.ViTModel(transformers.ViTConfig(**common, pooler_act="linear")),
        "no class token": transformers.IJepaModel(transformers.IJepaConfig(**common)),
        "swin": transformers.SwinModel(of_swin),
    }


def written(model: transformers.PreTrainedModel) -> dict:
    """config.json, shape and dtype of each tensor, and the metadata of the file."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        with safe_open(Path(folder) / "model.safetensors", "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
            tensors = {name: [part.get_shape(), part.get_dtype()] for name, part in slices.items()}
            return {"config": config, "tensors": tensors, "metadata": file.metadata()}


if __name__ == "__main__":
    found = {name: written(model) for name, model in models().items()}
    (HERE / "hub.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"transformers {transformers.__version__}, {(HERE / 'hub.json').stat().st_size:,} bytes")
