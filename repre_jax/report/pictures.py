"""The pictures that lie in a run's folder, as parts of its report."""

import base64
import time
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element

from PIL import Image

from repre_jax.report.document import section, tag

BUDGET = 4_000_000  # bytes of pictures in one page; those beyond are linked to
KINDS = {  # in this order
    "reconstructions": "Reconstructions",
    "attention": "Attention",
    "tsne": "t-SNE",
    "neighbours": "Nearest neighbours",
    "pyramid": "Feature pyramid",
    "augmentations": "Augmentations",
}


def shown(run: Path) -> Element | None:
    """The newest picture of each kind in RUN/figures/ and RUN, embedded; what is no whole PNG is left out."""
    left, figures = BUDGET, []
    for kind, (written, path) in sorted(_newest(run).items(), key=lambda item: -item[1][0]):
        try:
            with Image.open(path, formats=["PNG"]) as image:
                size = image.size
                image.verify()
            data = path.read_bytes()
        except Exception:  # Pillow raises errors of many kinds for a file that is not whole
            continue
        fits = len(data) <= left
        left -= len(data) if fits else 0
        figures.append((_order(kind), _figure(run, path, kind, written, size, data if fits else None)))
    if not figures:
        return None
    return section("Figures", *(figure for _, figure in sorted(figures, key=lambda item: item[0])))


def _newest(run: Path) -> dict[str, tuple[float, Path]]:
    """kind -> (when written, path). A kind is a file's name without its ending."""
    found: dict[str, tuple[float, Path]] = {}
    for path in sorted([*run.glob("*.png"), *run.glob("figures/*.png")]):
        try:
            found[path.stem] = max(found.get(path.stem, (0.0, path)), (path.stat().st_mtime, path))
        except OSError:
            continue
    return found


def _figure(run: Path, path: Path, kind: str, written: float, size: tuple[int, int], data: bytes | None) -> Element:
    title, name = KINDS.get(kind, kind), path.relative_to(run).as_posix()
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
    if data is None:
        shown = tag("p", "Too large to stand here: a file beside this page.")
    else:
        source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
        width, height = map(str, size)
        image = tag("img", src=source, alt=f"{title}, from {name}", width=width, height=height)
        shown = tag("div", image, class_="wide-picture", tabindex="0")
    caption = tag("figcaption", tag("a", name, href=quote(name)), f", {when}")
    return tag("figure", tag("h3", title), shown, caption, class_="picture")


def _order(kind: str) -> tuple[int, str]:
    return (list(KINDS).index(kind) if kind in KINDS else len(KINDS), kind)
