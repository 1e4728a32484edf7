"""What benchmarks/deviceless.py prints for people."""

from collections.abc import Sequence
from typing import Any

from repre_jax.report import console

SENT = ("sent", "dtype", "arrays", "MiB", "largest", "of")
TITLES = ("part", "kernels", "GB", "TFLOP", "bound, ms", "share")


def lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    side = "bytes" if found["bytes_seconds"] > found["products_seconds"] else "products"
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("jax", "libtpu") if name in found["versions"])
    room = "" if found["fits"] else ", which the chip does not have"
    several = f"{found['chips']} x " if found["chips"] > 1 else ""
    shown = console.table(
        [
            ("step", f"{found['config']}, attention {found['attention']}, batch {found['batch']}"),
            ("chip", f"{several}{found['chip']}, not there; {found['date']}, {versions}"),
            ("memory", f"{found['planned_memory_bytes'] / 2**30:.1f} GiB planned{room}"),
            ("kernels", f"{found['kernels']:,}"),
            ("moved", f"{found['bytes_moved'] / 1e9:.1f} GB, {1e3 * found['bytes_seconds']:.1f} ms at memory's rate"),
            ("relayouts", f"{found['relayout_bytes'] / 1e9:.1f} GB of it, in {found['relayouts']:,} kernels"),
            ("products", f"{found['flops_of_products'] / 1e12:.2f} TFLOP, {1e3 * found['products_seconds']:.1f} ms; "
                         f"{found['flops_by_formula'] / 1e12:.2f} TFLOP by formula"),
            ("forgotten", found["remat"]),
            ("libraries", ", ".join(f"{name} {count}" for name, count in found["libraries"].items()) or "none"),
            ("bound", f"{1e3 * found['bound_seconds']:.1f} ms, mostly of {side}; MFU {found['bound_mfu']:.1%} at most"),
            ("not known", "time, autotuning's choices, what caches hold"),
        ]
    ).splitlines()  # fmt: skip
    for title, rows in (
        ("part", found["parts"]),
        ("largest", found["largest"]),
        ("relayout", found["largest_relayouts"]),
    ):
        shown += _table((title, *TITLES[1:]), [_cells(row, found["bound_seconds"]) for row in rows])
    sent = [
        (row["kind"], row["dtype"], f"{row['arrays']:,}", f"{row['bytes'] / 2**20:.2f}", row["largest"], row["made_by"])
        for row in found["collectives"]
    ]
    return shown + (_table(SENT, sent) if sent else [])


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", _line(titles), _line(("---",) * len(titles)), *map(_line, rows)]


def _cells(row: dict[str, Any], whole: float) -> tuple[str, ...]:
    numbers = f"{row['bytes_moved'] / 1e9:.2f}", f"{row['flops'] / 1e12:.3f}", f"{1e3 * row['bound_seconds']:.2f}"
    return row["name"], f"{row['kernels']:,}", *numbers, f"{row['bound_seconds'] / whole:.1%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
