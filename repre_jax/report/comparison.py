"""Several runs in one page: their curves over each other, their results side by side, where their configs differ."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from repre_jax.report import curves, document, page, panels, results
from repre_jax.report.document import Child, section, table, tag
from repre_jax.report.run import Run, number


def html(runs: Sequence[Run]) -> str:
    """The page's text. runs: from two to curves.LOOKS different ones."""
    names = short_names([run.folder for run in runs])
    images = len({number(run.config.get("batch_size")) for run in runs}) > 1
    images = images and all(number(run.config.get("batch_size")) for run in runs)
    shown = panels.of_runs(runs, names, images)
    about = "By images seen, as batch sizes differ." if images else "By step."
    title = f"{len(runs)} runs compared"
    body = [
        tag("header", tag("h1", title), _legend(runs, names)),
        section("Results", table(("", *_heads(names)), _results(runs))),
    ]
    if shown:
        note = tag("p", f"{about} Under each curve stands its newest value.", class_="about")
        body.append(section("Curves", note, *page.folded(shown)))
    body.append(section("Differences of the configs", _differences(runs, names)))
    return document.page(title, body)


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, each with as many of the folders above it as all need to be told apart."""
    parts = [folder.parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def differences(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Keys of the configs that differ, and of the data sets' identities where all runs have one -> the value in each
    run, None where it has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    values = {key: [str(run.config[key]) if key in run.config else None for run in runs] for key in keys}
    if all(run.data for run in runs):
        known = dict.fromkeys(key for run in runs for key in run.data if key not in ("name", "version"))
        values |= {f"data set: {key}": [str(run.data.get(key)) for run in runs] for key in known}
    return {key: found for key, found in sorted(values.items()) if len(set(found)) > 1}


def _legend(runs: Sequence[Run], names: Sequence[str]) -> Element:
    lines = [
        tag(
            "li",
            curves.swatch(look),
            tag("span", tag("b", name), f", {results.title(run)}"),
            tag("span", str(run.folder), class_="path"),
        )
        for look, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    return tag("ul", *lines, class_="legend")


def _heads(names: Sequence[str]) -> list[Element]:
    return [tag("span", curves.swatch(look), f" {name}") for look, name in enumerate(names)]


def _results(runs: Sequence[Run]) -> list[list[Child]]:
    """A row a number, with what belongs to it below; the newest ones of runs that are not finished."""
    found = [{figure.name.removesuffix(" now"): figure for figure in results.summary(run)} for run in runs]
    names = dict.fromkeys(name for figures in found for name in figures)
    state: list[Child] = ["state"]
    for run in runs:
        of = "" if run.total is None else f" of {run.total:,}"
        state.append("finished" if run.result else f"step {run.step:,}{of}")
    rows = [state]
    for name in names:
        cells = [figures.get(name) for figures in found]
        rows.append([name, *(_cell(figure.value, figure.beside) if figure else _missing("none") for figure in cells)])
    return rows


def _cell(value: str, beside: str) -> Element:
    return tag("span", tag("b", value), tag("span", beside, class_="below") if beside else None)


def _missing(text: str) -> Element:
    return tag("span", text, class_="missing")


def _differences(runs: Sequence[Run], names: Sequence[str]) -> Element:
    found = differences(runs)
    if not found:
        return tag("p", "None: every key has the same value.", class_="about")
    rows = [
        [key, *(_missing("no such key") if value is None else value for value in row)] for key, row in found.items()
    ]
    return table(("key", *_heads(names)), rows)
