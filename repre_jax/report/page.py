"""RUN/report.html: what a run did so far, in one file that a browser shows without a network or a server."""

import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from repre_jax.core import run_files
from repre_jax.report import curves, document, panels, pictures, results
from repre_jax.report.console import duration
from repre_jax.report.curves import Line, Panel
from repre_jax.report.document import section, table, tag
from repre_jax.report.results import Figure
from repre_jax.report.run import Run, number, read

REFRESH = 30  # seconds until an open page of an unfinished run reads the file again


def write(run: Path, *, stopped: bool = False) -> Path:
    """Writes report.html into a run's workdir, in one go, from what lies there; returns its path.

    Whatever is missing, cut short or unreadable there is left out of the page. stopped: say that an unfinished run does
    not go on by itself, and have no browser wait for it. Raises OSError when the file itself cannot be written.
    """
    path = run / run_files.PAGE
    run_files.replace(path, html(read(run), stopped=stopped))
    return path


def html(run: Run, *, stopped: bool = False) -> str:
    """The page's text."""
    title = results.title(run)
    main, others = panels.of_run(run)
    body = [
        _header(title, run, stopped),
        section("Results", numbers(results.summary(run)), _everything(run)) if run.series or run.result else None,
        section("Curves", _about_curves(run), grid(main)) if main else None,
        section("Further measurements", *folded(others)) if others else None,
        pictures.shown(run.folder),
        _command(run),
        _starts(run),
        _config(run),
    ]
    ended = stopped or bool(run.result)
    return document.page(title, [part for part in body if part is not None], None if ended else REFRESH)


def numbers(figures: Sequence[Figure]) -> Element:
    """Large numbers, each with its name and what it is to be compared with."""
    cards = [
        tag("div", tag("dt", figure.name), tag("dd", figure.value, class_="number"), _beside(figure))
        for figure in figures
    ]
    return tag("dl", *cards, class_="numbers")


def folded(shown: Sequence[Panel]) -> list[Element]:
    """A grid of panels, and a closed one of those in which nothing but 0 was measured."""
    others, empty = ([panel for panel in shown if _stayed_zero(panel) == folds] for folds in (False, True))
    parts = [grid(others)] if others else []
    if empty:
        parts.append(tag("details", tag("summary", f"{len(empty)} that stayed 0"), grid(empty), class_="folded"))
    return parts


def _stayed_zero(panel: Panel) -> bool:
    return not any(np.nan_to_num(line.y).any() for line in panel.lines)


def grid(shown: Sequence[Panel]) -> Element:
    """Panels beside each other, each with its legend, which says the newest values."""
    figures = [
        tag(
            "figure",
            tag("h3", panel.title),
            svg,
            tag("figcaption", tag("ul", *(_newest(line, panel.percent) for line in panel.lines))),
            class_="panel",
        )
        for panel, svg in zip(shown, curves.draw(shown), strict=True)
    ]
    return tag("div", *figures, class_="grid")


def _newest(line: Line, percent: bool) -> Element:
    last = np.flatnonzero(np.isfinite(line.y))[-1]
    value, x = line.y[last], line.x[last]
    at = "" if line.id is None else f" at {x:,.0f}" + (", then not finite" if last < len(line.y) - 1 else "")
    text = tag("span", tag("b", written(value, percent)), at)
    return tag("li", curves.swatch(line.look), tag("span", line.label), text)


def written(value: float, percent: bool = False) -> str:
    """As people write it: a share in percent, four digits of anything else."""
    if percent:
        return f"{value:.1%}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def _beside(figure: Figure) -> Element | None:
    return tag("dd", figure.beside, class_="beside") if figure.beside else None


def _header(title: str, run: Run, stopped: bool) -> Element:
    of = f"step {run.step:,}" if run.total is None else f"step {run.step:,} of {run.total:,}"
    left = None if stopped else run.seconds_left
    name = "Finished" if run.result else "Stopped" if stopped else "Not finished"
    state = tag("span", name, class_="done" if run.result else "going")
    facts = [of, f"{duration(left)} left" if left is not None else "", time.strftime("written %Y-%m-%d %H:%M:%S %Z")]
    progress = None
    if not run.result and run.total:
        progress = tag("progress", max=str(run.total), value=str(min(run.step, run.total)), aria_label="Progress")
    return tag(
        "header",
        tag("p", str(run.folder), class_="path"),
        tag("h1", title),
        tag("p", state, " ", ", ".join(filter(None, facts)), class_="state"),
        progress,
        *(tag("p", warning, class_="warning") for warning in _warnings(run)),
    )


def _warnings(run: Run) -> list[str]:
    found = []
    row, first = run.newest("skipped_in_a_row"), run.newest("first_bad_step")
    if row:
        since = f" from step {first:,.0f} on" if first else ""
        found.append(f"The last {row:,.0f} steps were skipped: loss or gradient not finite{since}.")
    if not run.series and not run.result:
        found.append("Nothing was logged yet.")
    if never := panels.without_value(run):
        found.append(f"Logged, but never finite: {', '.join(never)}.")
    return found


def _everything(run: Run) -> Element | None:
    """result.json as it is."""
    if not run.result:
        return None
    rows = [(key, str(value)) for key, value in run_files.flat(dict(run.result)).items()]
    return tag("details", tag("summary", "All of result.json"), table(("key", "value"), rows))


def _about_curves(run: Run) -> Element:
    text = "By step. Under each curve stands its newest value."
    if marks := run.interruptions():
        steps = ", ".join(f"{step:,.0f}" for step in marks[-20:])
        text += f" Vertical lines: started again from step {steps}."
    return tag("p", text, class_="about")


def _command(run: Run) -> Element | None:
    command = run.starts[-1].get("command") if run.starts else None
    if not isinstance(command, str):
        return None
    does = "prints the summary of this run again" if run.result else "goes on from the newest whole checkpoint"
    about = tag("p", f"In the folder where the run was started this {does}:", class_="about")
    return section("Command", about, tag("pre", tag("code", command), tabindex="0"))


def _starts(run: Run) -> Element | None:
    rows = []
    for start in run.starts:
        versions = start.get("versions")
        versions = versions if isinstance(versions, dict) else {}
        packages = [f"python {start.get('python')}", *(f"{name} {version}" for name, version in versions.items())]
        when, commit = str(start.get("time") or "").replace("T", " "), str(start.get("commit") or "unknown")
        rows.append(
            (
                f"{number(start['step']):,.0f}",
                tag("span", when, class_="line"),
                f"{start.get('devices')} on {start.get('host')}",
                tag("span", ", ".join(packages), class_="wide"),
                tag("span", commit[:12] + commit[40:], title=commit, class_="line"),
            )
        )
    head = ("from step", "when", "devices", "versions", "commit")
    return section("Starts", table(head, rows)) if rows else None


def _config(run: Run) -> Element | None:
    if not run.config:
        return None
    rows = [(key, str(value)) for key, value in run.config.items()]
    keys = tag("summary", f"All {len(rows)} keys")
    return section("Config", tag("details", keys, table(("key", "value"), rows)))
