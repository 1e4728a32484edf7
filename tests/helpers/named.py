"""Metrics that a run has logged and the table of their names lacks."""

from repre_jax.core import run_files
from repre_jax.report.metric_names import METRICS


def unnamed(run):
    logged = {name for row in run_files.read_metrics(run / "metrics.jsonl") for name in row}
    return logged - METRICS.keys() - {"step"}
