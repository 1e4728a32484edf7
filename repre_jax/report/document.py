"""HTML as a tree of elements, which the standard library writes out: whatever a text holds, it is escaped."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child = Element | str | None
STYLE = Path(__file__).with_name("page.css")


def tag(name: str, /, *children: Child, **attributes: str) -> Element:
    """An element. None among the children is left out; in attributes' names `_` stands for `-`, but not at the end,
    where it only keeps Python's own words free: class_, aria_label."""
    element = Element(name, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child is not None and len(element):
            element[-1].tail = (element[-1].tail or "") + child
        elif child is not None:
            element.text = (element.text or "") + child
    return element


def section(title: str, *children: Child) -> Element:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), *children)


def table(head: Sequence[Child], rows: Iterable[Sequence[Child]]) -> Element:
    """The first cell of each row names it. A table wider than the page scrolls inside itself."""
    lines = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", top, tag("tbody", *lines)), class_="scroll", tabindex="0")


def page(title: str, body: Sequence[Child], refresh: int | None = None) -> str:
    """A whole file that needs nothing else, in ASCII, so that no encoding can spoil it. refresh: seconds until a
    browser reads it again."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=str(refresh)) if refresh else None,
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", STYLE.read_text(encoding="ascii")),
    )
    tree = tag("html", head, tag("body", tag("main", *body)), lang="en")
    text = ElementTree.tostring(tree, encoding="us-ascii", method="html").decode("ascii")
    return f"<!DOCTYPE html>\n{text}\n"
