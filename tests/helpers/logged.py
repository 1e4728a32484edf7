"""Folders of runs as training leaves them, without training."""

import json
import math
import re

CONFIG = {
    "batch_size": 64,
    "data": {"name": "digits", "image_size": [16, 16]},
    "encoder": {"name": "vit_s"},
    "framework": {"name": "moco_v3", "temperature": 0.2},
    "optim": {"lr": 0.012},
    "repre": {"enabled": True},
    "task": "pretrain",
    "total_steps": None,
}
START = {
    "step": 0,
    "total_steps": 2000,
    "time": "2026-11-24T02:00:00+0000",
    "command": "python main.py --config configs/moco_vit_s.py:digits --workdir runs/x",
    "host": "vm",
    "devices": "1 x cpu",
    "python": "3.11.7",
    "versions": {"jax": "0.10.2"},
    "commit": "0aab373d9080d08d3a45672e5613d9a9c0edd333 + changes",
}
RESULT = {
    "task": "pretrain",
    "steps": 2000,
    "seconds": 235.0,
    "skipped_steps": 0,
    "images_per_second": 671.4,
    "knn_k": 20,
    "knn_top1": 0.953,
    "knn_top1_untrained": 0.658,
    "knn_top1_pixels": 0.944,
    "effective_rank": None,
    "reconstruction_l1": 0.0041,
    "reconstruction_l1_mean_colour": 0.2845,
}


def rows(count=40, every=50, scale=1.0):
    """Lines of metrics.jsonl: all that pre-training logs, k-NN now and then, and one skipped stretch."""
    found = [{"step": 0, "unreadable": 0.0, "knn_top1": 0.658}]
    for i in range(1, count + 1):
        bad = i in (7, 8)
        row = {
            "step": i * every,
            "unreadable": 0.0,
            "contrastive": None if bad else scale * (0.7 + 2 / i + 0.1 * math.sin(i)),
            "embedding_std": None if bad else 0.12 + 0.004 * math.cos(i),
            "embedding_std_uniform": 0.125,
            "gradient_norm": None if bad else 20 / i + 0.3,
            "loss": None if bad else scale * (3 - 0.1 * i),
            "lr": 0.003 * (1 - i / (count + 1)),
            "momentum": 0.9 + 0.1 * i / count,
            "reconstruction": None if bad else 0.1 / i,
            "skipped": 0.0 if i < 7 else min(i - 6, 2),
            "weight_contrastive": 1.2,
            "weight_reconstruction": 1.0 + i,
            "images_per_second": None if i == 1 else 640.0 + i % 7,
            "wait_share": None if i == 1 else 0.05 + 0.01 * (i % 3),
        }
        found.append(row | ({"knn_top1": 0.7 + 0.006 * i} if i % 5 == 0 else {}))
    return found


def write(folder, logged=None, config=None, starts=None, result=None):
    """A run's folder; a finished run where there is a result."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    lines = rows() if logged is None else logged
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (folder / "starts.jsonl").write_text("".join(json.dumps(start) + "\n" for start in starts or [START]))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def curves(text):
    """A page's curves: name -> the points that are drawn, as [(x, y), ...] in the drawing's units."""
    found = {}
    for name, path in re.findall(r'<g id="curve-([^"]*)"><path d="([^"]*)"', text):
        found[name] = [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]
    return found
