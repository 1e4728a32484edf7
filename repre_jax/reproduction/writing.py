"""A table as people and programs read it: Markdown, JSON and a page."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repre_jax.core import run_files
from repre_jax.frameworks import FRAMEWORKS
from repre_jax.report import document
from repre_jax.report.document import section, tag
from repre_jax.reproduction import finished, pictures, results, statistics
from repre_jax.reproduction.results import Number
from repre_jax.reproduction.statistics import Difference, Summary
from repre_jax.reproduction.table import Measure, Table
from repre_jax.reproduction.work import Found

EMPTY = "not run"


def write(folder: Path, table: Table, seeds: Sequence[int], found: Found, drawn: Sequence[str]) -> list[Path]:
    """TABLE.md, TABLE.json and TABLE.html in the folder; returns their paths. drawn: the pictures that could not be, a
    line each."""
    run_files.make_folder(folder, parents=True)
    lines = results.numbers(table, seeds, found.cells)
    shown = [picture for picture in table.pictures if run_files.exists(pictures.path_of(folder, picture))]
    named = {f"{picture.name}.png": picture.title for picture in shown}
    if table.chart:
        pictures.chart(table, lines, folder / f"{table.name}.png")
        named[f"{table.name}.png"] = table.title
    missing = [*troubles(table, seeds, found), *drawn]
    texts = {
        ".md": markdown(table, seeds, lines, found, named, missing),
        ".json": run_files.json_text(as_json(table, seeds, lines, found, missing)),
        ".html": page(table, seeds, lines, found, named, missing),
    }
    for suffix, text in texts.items():
        run_files.replace(folder / f"{table.name}{suffix}", text)
    return [folder / f"{table.name}{suffix}" for suffix in texts]


def markdown(
    table: Table,
    seeds: Sequence[int],
    lines: Sequence[Sequence[Number]],
    found: Found,
    named: Mapping[str, str],
    missing: Sequence[str],
) -> str:
    """A table a measure with its signs, the pictures, and what is missing. named: pictures' titles by their files."""
    parts = [f"# {_title(table)}", *_about(table, seeds, found)]
    for column, measure in enumerate(table.measures):
        heads, rows = cells(table, lines, column)
        parts.append("\n".join([_line(heads), "|" + "---|" * len(heads), *(_line(row) for row in rows)]))
        parts += _signs(table, lines, column, measure)
    parts += [f"![{title}]({file})" for file, title in named.items()]
    parts += [f"- {line}" for line in missing]
    return "\n\n".join(parts) + "\n"


def page(
    table: Table,
    seeds: Sequence[int],
    lines: Sequence[Sequence[Number]],
    found: Found,
    named: Mapping[str, str],
    missing: Sequence[str],
) -> str:
    """The same as a file for a browser, which shows the pictures beside it."""
    about = (tag("p", text.replace("`", "")) for text in _about(table, seeds, found))
    body = [tag("header", tag("h1", _title(table)), *about)]
    for column, measure in enumerate(table.measures):
        heads, rows = cells(table, lines, column)
        signs = (tag("p", text) for text in _signs(table, lines, column, measure))
        body.append(section(measure.title, document.table(heads, rows), *signs))
    body += [section(title, tag("img", src=file, alt=title, style="max-width: 100%")) for file, title in named.items()]
    if missing:
        body.append(section("Not in this table", tag("ul", *(tag("li", line) for line in missing))))
    return document.page(_title(table), body)


def _title(table: Table) -> str:
    name = re.sub(r"(?<=[a-z])(?=\d)", " ", table.name).capitalize()
    return f"{name}, scale {table.scale.name}: {table.title}"


def as_json(
    table: Table, seeds: Sequence[int], lines: Sequence[Sequence[Number]], found: Found, missing: Sequence[str]
) -> dict[str, Any]:
    """Everything that the other two show, unrounded."""
    rows = []
    for row, line in zip(table.rows, lines, strict=True):
        by_measure = {}
        for measure, number in zip(table.measures, line, strict=True):
            difference = number.difference
            by_measure[measure.title] = {
                "paper": number.paper,
                "by_seed": {str(seed): value for seed, value in number.by_seed.items()},
                "mean": number.summary and number.summary.mean,
                "std": number.summary and _finite(number.summary.std),
                "seeds": len(number.by_seed),
                "untrained": number.untrained and number.untrained.mean,
                "paper_difference": number.papers_difference,
                "difference": difference
                and {
                    "mean": difference.mean,
                    "low": _finite(difference.low),
                    "high": _finite(difference.high),
                    "pairs": difference.count,
                    "positive": difference.positive,
                    "negative": difference.negative,
                },
            }
        rows.append(dict(zip(table.heads, row.labels, strict=True)) | {"measures": by_measure})
    return {
        "table": table.name,
        "scale": table.scale.name,
        "seeds": list(seeds),
        "confidence": statistics.CONFIDENCE,
        "rows": rows,
        "cells": sorted({found.cells[run].name for run in table.in_order(seeds) if run in found.cells}),
        "missing": list(missing),
    }


def cells(table: Table, lines: Sequence[Sequence[Number]], column: int) -> tuple[list[str], list[list[str]]]:
    """The heads and the rows of one measure's table, as text."""
    measure = table.measures[column]
    published = any(line[column].paper is not None for line in lines)
    papers = ["paper", "paper's difference"] if published else []
    beside = ["untrained"] if measure.untrained else []
    differences = ["difference", "seeds up, down"] if _has_differences(table) else []
    heads = [*table.heads, *papers, measure.title, *differences, *beside]
    rows = []
    for row, line in zip(table.rows, lines, strict=True):
        number = line[column]
        paired = number.difference
        figures = (
            "-" if number.paper is None else str(number.paper),
            "-" if number.papers_difference is None else f"{number.papers_difference:+.{measure.digits}f}",
        )
        signs = ("-", "-")
        if paired is not None:
            signs = (_interval(paired, measure), f"{paired.positive}, {paired.negative}")
        rows.append(
            [
                *row.labels,
                *(figures if published else ()),
                _mean(number.summary, measure),
                *(signs if differences else ()),
                *(_mean(number.untrained, measure) for _ in beside),
            ]
        )
    return heads, rows


def _has_differences(table: Table) -> bool:
    return any(row.without is not None for row in table.rows)


def _mean(found: Summary | None, measure: Measure) -> str:
    digits = measure.digits
    if found is None:
        return EMPTY
    std = "" if math.isnan(found.std) else f" ± {found.std:.{digits}f}"
    return f"{found.mean:.{digits}f}{std} ({found.count})"


def _interval(found: Difference, measure: Measure) -> str:
    mean = f"{found.mean:+.{measure.digits}f}"
    if math.isnan(found.low):
        return f"{mean} (one pair)"
    return f"{mean} [{found.low:+.{measure.digits}f}, {found.high:+.{measure.digits}f}]"


def _about(table: Table, seeds: Sequence[int], found: Found) -> list[str]:
    ours = [found.cells[run] for run in dict.fromkeys(table.in_order(seeds)) if run in found.cells]
    paired = ""
    if _has_differences(table):
        interval = f"Student's {statistics.CONFIDENCE:.0%} interval of their mean"
        paired = f"; differences are to {table.other}, paired by seed, with {interval}"
    texts = [
        f"Written by `python -m repre_jax.tools.reproduce {table.name} --scale {table.scale.name} "
        f"--seeds {len(seeds)}`; nothing is filled in by hand. A mean over seeds, ± their standard deviation, and how "
        f"many there are{paired}. The paper's figures are of its own data and lengths.",
        *table.notes,
    ]
    if ours:
        dates, machines = sorted({cell.date for cell in ours}), sorted({cell.machine for cell in ours})
        devices = sorted({cell.devices for cell in ours})
        commits = sorted({f"{commit[:7]}{commit[40:]}" for commit in (cell.commit or "unknown" for cell in ours)})
        when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
        spent = [cell.processor_seconds for cell in ours if cell.processor_seconds is not None]
        texts.append(
            f"{len(ours)} cells, {when}, {'; '.join(machines)} ({'; '.join(devices)}); commits {', '.join(commits)}; "
            f"{sum(spent) / 3600:.1f} processor hours, of the {len(spent)} whose time is known."
        )
    return texts


def _signs(table: Table, lines: Sequence[Sequence[Number]], column: int, measure: Measure) -> list[str]:
    counted = results.signs(table, lines, column)
    if not counted:
        return []
    said = [
        f"{FRAMEWORKS[name].title if name else 'all'} {each.positive} up, {each.negative} down"
        + (f" (p = {each.p:.2g} of a fair coin)" if not name else "")
        for name, each in counted.items()
    ]
    return [f"Pairs of {measure.title}: {'; '.join(said)}."]


def troubles(table: Table, seeds: Sequence[int], found: Found) -> list[str]:
    """What is not in the table, and why."""
    wanted = list(dict.fromkeys(table.in_order(seeds)))
    missing = [run for run in wanted if run not in found.cells and run not in found.failed]
    lines = [f"{len(missing)} of {len(wanted)} cells were not run."] if missing else []
    lines += [
        f"{run.name} failed: {finished.LOGS}/{log.name} in the workdir"
        for run, log in found.failed.items()
        if run in wanted
    ]
    lines += [f"{why}." for run, why in found.refused.items() if run in wanted]
    data: dict[str, dict[str, str]] = {}
    for cell in (found.cells[run] for run in wanted if run in found.cells):
        data.setdefault(str(cell.data_set.get("name")), {}).setdefault(str(sorted(cell.data_set.items())), cell.name)
    return lines + [
        f"Cells are of different data called {name}: {' and '.join(list(versions.values())[:2])}."
        for name, versions in data.items()
        if len(versions) > 1
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
