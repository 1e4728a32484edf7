"""Whether timm sees in exported files what we do: features of a fixed batch, as docs/encoders-and-weights.md has it.

  pip install timm && python -m benchmarks.timm_parity RUN/export/FILE.safetensors ...

Only this program needs PyTorch.
"""

import argparse
import contextlib
import importlib.metadata
import io
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from repre_jax.builders import methods
from repre_jax.pretrained import weight_file

TOLERANCE = 1e-4


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    files = parser.parse_args().files
    try:
        import safetensors.torch
        import timm
        import torch
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed.\n  change:   pip install timm") from None
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("timm", "torch", "jax")))
    for path in files:
        card = weight_file.read_card(path)
        if "timm" not in card:
            raise SystemExit(f"{path} is no file that python -m repre_jax.tools.export RUN has written for timm.")
        size, channels = (card["preprocessing"][key] for key in ("image_size", "channels"))
        images = np.random.default_rng(5).standard_normal((3, *size, channels), np.float32)

        config = ConfigDict(card["config"])
        encoder = methods.encoder_of(config, tuple(size))
        with contextlib.redirect_stdout(io.StringIO()):  # what was loaded
            params = weight_file.read(path).load(encoder, tuple(size))
        ours = np.asarray(jax.jit(encoder.apply)({"params": params}, images).pooled)

        model = timm.create_model(card["timm"]["model"], **card["timm"]["arguments"]).eval()
        model.load_state_dict(safetensors.torch.load_file(path))
        with torch.no_grad():
            theirs = model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        difference = np.abs(ours - theirs).max()
        print(f"{path}: largest feature {np.abs(ours).max():.3f}, difference {difference:.1e}")
        if not difference <= TOLERANCE:
            raise SystemExit(f"expected: at most {TOLERANCE:g}")


if __name__ == "__main__":
    run()
