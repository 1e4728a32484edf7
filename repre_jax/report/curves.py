"""Curves as inline SVG, drawn by matplotlib; their colours are CSS variables, so that the page decides on them."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from repre_jax.report.document import tag

WIDTH, HEIGHT = 320, 176  # of the drawing, in its own units: shown at this size on a phone, larger elsewhere
FONT = 11.5
LOOKS = 8  # colours, each with dashes of its own; page.css has the colours
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (4, 3),
    (1.4, 1.4),
    (7, 1.6, 1.4, 1.6),
    (2.6, 2),
    (9, 2.6),
    (5, 1.4, 1.4, 1.4, 1.4, 1.4),
    (1, 2.6),
)
DASHES += DASHES[1:4]  # of grey lines, from LOOKS on: no run's, but what all are to be compared with
COLOURS = (*(f"var(--curve-{look + 1})" for look in range(LOOKS)), *["var(--muted)"] * (len(DASHES) - LOOKS))
STROKE = 1.4
DOTTED = 16  # as many values are each given a dot, more only where they stand alone
MARKERS = {  # colours that matplotlib is told, and what becomes of them
    "#000010": "var(--muted)",
    "#000011": "var(--grid)",
    "#000012": "var(--mark)",
} | {f"#0000a{look:x}": colour for look, colour in enumerate(COLOURS)}
MUTED, GRID, MARK = list(MARKERS)[:3]
STEPS = (1, 2, 2.5, 5, 10)  # between ticks


@dataclass(frozen=True)
class Line:
    """x, y: float [n], NaN in y: a gap. look: which of DASHES and COLOURS. id: of the curve in the page; None for
    a line that is only there to be compared with."""

    id: str | None
    label: str
    x: np.ndarray
    y: np.ndarray
    look: int = 0


@dataclass(frozen=True)
class Panel:
    """One drawing. marks: where vertical lines stand. percent: y are fractions. log: a logarithmic axis, if all of y is
    above 0 and the largest at least four times the smallest."""

    title: str
    lines: Sequence[Line]
    percent: bool = False
    log: bool = False
    marks: Sequence[float] = field(default=())


def draw(panels: Sequence[Panel]) -> list[Element]:
    """An <svg> each, in which every line with an id is a group of that id.

    Of long lines matplotlib leaves out the points that nobody would see.
    """
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    drawn = []
    for panel in panels:
        salt = panel.lines[0].id or panel.title
        with matplotlib.rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": salt,
                "path.simplify": True,
                "path.simplify_threshold": 0.4,
                "font.size": FONT,
                "axes.axisbelow": True,
            }
        ):
            axes.clear()
            _draw(axes, panel)
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        drawn.append(_clean(text.getvalue(), panel.title))
    return drawn


def swatch(look: int) -> Element:
    """A short piece of such a line, for a legend."""
    dashes = " ".join(f"{STROKE * part:.2f}" for part in DASHES[look])
    style = f"stroke: {COLOURS[look]}; stroke-width: {1.5 * STROKE}"
    line = tag("line", x1="0", y1="5", x2="26", y2="5", style=style, **({"stroke_dasharray": dashes} if dashes else {}))
    return tag("svg", line, class_="swatch", viewBox="0 0 26 10", width="26", height="10", aria_hidden="true")


def _draw(axes: Axes, panel: Panel) -> None:
    for part in (axes.figure.patch, axes.patch, *axes.spines.values()):
        part.set_visible(False)
    axes.tick_params(length=0, labelcolor=MUTED, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=1)
    for line in panel.lines:
        _line(axes, line)
    _marks(axes, panel.marks)  # after the lines, whose limits would else be forgotten
    _x_axis(axes, panel)
    _y_axis(axes, panel)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    left = 12 + 0.6 * FONT * max(map(len, labels), default=0)
    axes.set_position((left / WIDTH, 24 / HEIGHT, 1 - (left + 16) / WIDTH, 1 - (24 + 18) / HEIGHT))


def _line(axes: Axes, line: Line) -> None:
    finite = np.isfinite(line.y)
    beside = np.concatenate([[False], finite, [False]])
    alone = finite & ~beside[:-2] & ~beside[2:]
    shown = finite if line.id and finite.sum() <= DOTTED else alone
    axes.plot(
        line.x,
        line.y,
        color=f"#0000a{line.look:x}",
        linewidth=STROKE if line.id else 0.8 * STROKE,
        linestyle=(0, DASHES[line.look]) if DASHES[line.look] else "-",
        dash_capstyle="butt",
        solid_capstyle="round",
        marker="o" if shown.any() else "",
        markersize=3,
        markeredgewidth=0,
        markevery=np.flatnonzero(shown).tolist(),
        gid=line.id,
        clip_on=False,
    )


def _marks(axes: Axes, marks: Sequence[float]) -> None:
    x, y = np.repeat(np.array(marks, float), 3), np.tile([0, 1, np.nan], len(marks))
    over = axes.get_xaxis_transform()
    axes.plot(x, y, color=MARK, linewidth=0.8, transform=over, scalex=False, scaley=False, zorder=1)


def _x_axis(axes: Axes, panel: Panel) -> None:
    last = max(line.x.max() for line in panel.lines)
    axes.set_xlim(0, last or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    units = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
    unit, letter = next(((unit, letter) for least, unit, letter in units if last >= least), (1, ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:,g}{letter if x else ''}"))


def _y_axis(axes: Axes, panel: Panel) -> None:
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in panel.lines])
    low, high = float(values.min()), float(values.max())
    if panel.log and low > 0 and high >= 4 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        return
    if low == high and panel.percent and 0 <= low <= 1:
        axes.set_ylim(0, 1)
    elif low == high:
        axes.set_ylim(min(0, 2 * low), max(0, 2 * low) or 1)
    counts = not panel.percent and bool((values == np.round(values)).all())
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=counts))
    formats = "{:.3g}%" if panel.percent else "{:,.6g}"
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: formats.format(100 * y if panel.percent else y)))


def _clean(svg: str, title: str) -> Element:
    """Without what a page has no use for: names of its own, fonts, metadata."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
        element.text, element.tail = element.text if element.tag == "text" else None, None
        attributes = {key.split("}")[-1]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value) for key, value in attributes.items() if _kept(key, value)})
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": title})
    return root


def _kept(key: str, value: str) -> bool:
    return key != "id" or value.startswith("curve-") or re.fullmatch(r"[a-z][0-9a-f]{10}", value) is not None


def _attribute(key: str, value: str) -> str:
    if key == "d":
        return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    if key == "style":
        value = re.sub(r"font: [^;]*;|font-family: [^;]*;", "", value)
        return re.sub("|".join(MARKERS), lambda match: MARKERS[match[0]], value).strip()
    return value
