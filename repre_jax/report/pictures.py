"""The pictures that lie in a run's folder, as parts of its report."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element

from PIL import Image

from repre_jax.core import run_files
from repre_jax.report.document import section, tag

BUDGET = 4_000_000  # bytes of pictures in one page; those beyond are linked to
LARGE = 300_000  # bytes of a PNG; of a larger one the page holds a copy
WIDEST, HIGHEST = 1600, 65_000  # pixels of a copy; JPEG has no room for many more
QUALITY = 85  # of 100, as JPEG counts
CSS_DPI = 96  # CSS pixels in an inch
WIDE = 720  # CSS pixels; a wider picture scrolls on a phone, where it would else be too small
BESIDE = "-and-"  # in the name of a picture of several runs
KINDS = {  # in this order
    "segmentation": "Segmentation",
    "confusion": "Confusion matrix",
    "detection": "Detection",
    "precision": "Precision of detections",
    "reconstructions": "Reconstructions",
    "attention": "Attention",
    "tsne": "t-SNE",
    "neighbours": "Nearest neighbours",
    "pyramid": "Feature pyramid",
    "augmentations": "Augmentations",
}


@dataclass(frozen=True)
class Picture:
    """What a page shows of a PNG: itself, or of a large one a smaller copy. size: width and height in CSS pixels."""

    size: tuple[int, int]
    kind: str
    data: bytes


def shown(run: Path) -> Element | None:
    """The newest picture of each kind in RUN/figures/ and RUN, embedded; what is no whole PNG is left out."""
    left, figures = BUDGET, []
    for kind, (written, path) in sorted(_newest(run).items(), key=lambda item: _order(item[0])):
        try:
            picture = _read(path)
        except Exception:  # Pillow raises errors of many kinds for a file that is not whole
            continue
        fits = len(picture.data) <= left
        left -= len(picture.data) if fits else 0
        figures.append(_figure(run, path, kind, written, picture if fits else None))
    return section("Figures", *figures) if figures else None


def _read(path: Path) -> Picture:
    """The picture, as large as it would be on paper."""
    data = run_files.read_bytes(path)
    Image.open(io.BytesIO(data), formats=["PNG"]).verify()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        dots = max(image.info.get("dpi", (0, 0))[0], CSS_DPI)
        width, height = (max(1, round(CSS_DPI * side / dots)) for side in image.size)
        copy = _copy(image) if len(data) > LARGE else data
    smaller = len(copy) < len(data)
    return Picture((width, height), "jpeg" if smaller else "png", copy if smaller else data)


def _copy(image: Image.Image) -> bytes:
    """A JPEG of it, on white, whose colours are as fine as its brightness: text and small images stay clear."""
    image = image.convert("RGBA")
    plain = Image.new("RGB", image.size, "white")
    plain.paste(image, mask=image)
    plain.thumbnail((WIDEST, HIGHEST), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    plain.save(written, "JPEG", quality=QUALITY, subsampling=0)
    return written.getvalue()


def _newest(run: Path) -> dict[str, tuple[float, Path]]:
    """kind -> (when written, path). A kind is a file's name without its ending."""
    found: dict[str, tuple[float, Path]] = {}
    for path in sorted([*run_files.matching(run, "*.png"), *run_files.matching(run, f"{run_files.FIGURES}/*.png")]):
        try:
            found[path.stem] = max(found.get(path.stem, (0.0, path)), (run_files.written_at(path), path))
        except OSError:
            continue
    return found


def _figure(run: Path, path: Path, kind: str, written: float, picture: Picture | None) -> Element:
    title, name = _title(kind), path.relative_to(run).as_posix()
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
    if picture is None:
        shown = tag("p", "Too large to stand here: a file beside this page.")
    else:
        source = f"data:image/{picture.kind};base64,{base64.b64encode(picture.data).decode('ascii')}"
        width, height = map(str, picture.size)
        image = tag("img", src=source, alt=f"{title}, from {name}", width=width, height=height)
        scrolls = {"class_": "wide-picture", "tabindex": "0"} if picture.size[0] > WIDE else {}
        shown = tag("div", image, **scrolls)
    caption = tag("figcaption", tag("a", name, href=quote(name)), f", {when}")
    return tag("figure", tag("h3", title), shown, caption, class_="picture")


def _title(kind: str) -> str:
    """For example 'Attention, beside multi and baseline', of attention-and-multi-and-baseline."""
    name, several, others = kind.partition(BESIDE)
    if name not in KINDS:
        return kind
    return f"{KINDS[name]}, beside {others.replace(BESIDE, ' and ')}" if several else KINDS[name]


def _order(kind: str) -> tuple[int, str]:
    name = kind.partition(BESIDE)[0]
    return (list(KINDS).index(name) if name in KINDS else len(KINDS), kind)
