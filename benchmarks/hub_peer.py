"""Hugging Face's side of benchmarks/hub_parity.py: opens folders with transformers alone, and says what it sees.

  PYTHON -P benchmarks/hub_peer.py FOLDER INPUT.npz OUTPUT.npz [FOLDER INPUT.npz OUTPUT.npz ...]

INPUT: `images` float32 [N, C, H, W], normalised; `pixels` uint8 [H, W, C], one image of the size that the encoder sees.
OUTPUT: `tokens` float32 [N, T, D], `pooled` [N, D], and `prepared` [C, H, W], the pixels by the folder's preprocessor;
`versions`. Shares nothing with repre_jax.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def see(folder: Path, given: Path, written: Path) -> None:
    """One folder. Exits with one line where a tensor is missing, or none of the model's."""
    model, found = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    wrong = {kind: sorted(map(str, names)) for kind, names in found.items() if names}
    if wrong:
        raise SystemExit(f"{folder} does not fit the model that its config.json describes: {wrong}")
    inputs = np.load(given)
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(inputs["images"]))
    pooled = output.pooler_output
    if pooled is None:
        pooled = output.last_hidden_state.mean(dim=1)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    prepared = processor(images=inputs["pixels"], input_data_format="channels_last", return_tensors="np")
    np.savez(
        written,
        tokens=output.last_hidden_state.numpy(),
        pooled=pooled.numpy(),
        prepared=prepared["pixel_values"][0],
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}",
    )


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    for number in range(0, len(paths), 3):
        see(*paths[number : number + 3])
