"""The pages as a browser shows them: opened from a file, light and dark, on a desktop and on a phone."""

import shutil

import pytest
from PIL import Image

from repre_jax.core import run_files
from repre_jax.report import page
from repre_jax.tools import compare
from tests.helpers.logged import RESULT, START, rows, write

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE, DESKTOP = 390, 1280
# Each text that is shown, with its colour, the colour behind it and its size in pixels.
TEXTS = """
const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
const behind = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour.slice(0, 3);
  }
};
return [...document.body.querySelectorAll('*')].filter(element => element.checkVisibility() &&
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())).map(element => {
  const style = getComputedStyle(element), svg = element.closest('svg');
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  return {text: element.textContent.slice(0, 40), size: parseFloat(style.fontSize) * scale,
    ink: numbers(svg ? style.fill : style.color).slice(0, 3), paper: behind(element)};
});
"""
# Each curve with its box, that of the drawing around it and the colour it is drawn in.
CURVES = """
return [...document.querySelectorAll('g[id^="curve-"]')].map(g => {
  const box = g.getBoundingClientRect(), around = g.closest('svg').getBoundingClientRect();
  return {id: g.id, width: box.width, around: around.width, stroke: getComputedStyle(g.querySelector('path')).stroke,
    inside: box.left >= around.left && box.right <= around.right
      && box.top >= around.top && box.bottom <= around.bottom};
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where no Chromium is installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with chromedriver is installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files: the report of a finished and of an unfinished run with long names, and a comparison of both."""
    folder = tmp_path_factory.mktemp("pages")
    long = "a_name_that_is_far_longer_than_a_phone_is_wide_" * 4
    finished = write(folder / "finished", result=RESULT | {long: long})
    for name, width in (("reconstructions", 1800), ("attention", 900), ("tsne", 300)):
        Image.new("RGB", (width, 300), "navy").save(finished / f"{name}.png", dpi=(150, 150))
    starts = [START, START | {"step": 400, "command": f"python {long} {long}"}]
    skipped = {"step": 1050, "skipped_in_a_row": 5.0, "first_bad_step": 1046.0, "never": None}
    unfinished = write(folder / long, [*rows(20), skipped], {long: long}, starts)
    out = folder / "compare.html"
    assert compare.main([str(finished), str(unfinished), "--out", str(out)]) == 0
    return {"finished": page.write(finished), "unfinished": page.write(unfinished), "compare": out}


def show(browser, path, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")


def contrast(first, second):
    """WCAG 2's ratio of two colours, sRGB in 0..255."""

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["finished", "unfinished", "compare"])
def test_a_page_opens_without_a_complaint_or_a_network(name, browser, pages):
    browser.get_log("browser")
    show(browser, pages[name], DESKTOP, "light")
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [entry for entry in loaded if not entry.startswith("data:")] == []
    broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", ["finished", "unfinished"])
def test_every_curve_is_seen(name, width, browser, pages):
    show(browser, pages[name], width, "light")
    lines = run_files.read_metrics(pages[name].parent / "metrics.jsonl")
    logged = {f"curve-{key}" for row in lines for key, value in row.items() if key != "step" and value is not None}
    found = browser.execute_script(CURVES)
    assert sorted(curve["id"] for curve in found) == sorted(logged)
    for curve in found:
        assert curve["inside"], curve["id"]
        assert curve["stroke"] == "rgb(0, 105, 180)" or curve["id"] in (
            "curve-weight_reconstruction",
            "curve-embedding_std_uniform",
        )
        lone = [row for row in lines if row.get(curve["id"].removeprefix("curve-")) is not None]
        assert curve["width"] > 0.4 * curve["around"] or len(lone) == 1, curve["id"]


@pytest.mark.parametrize("name", ["finished", "unfinished", "compare"])
def test_nothing_is_wider_than_a_phone(name, browser, pages):
    show(browser, pages[name], PHONE, "light")
    wide, window = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window == PHONE
    texts = browser.execute_script(TEXTS)
    assert min(text["size"] for text in texts) >= 10
    columns = "return new Set([...document.querySelectorAll('.panel')].map(panel => panel.offsetLeft)).size"
    assert browser.execute_script(columns) == 1
    show(browser, pages[name], DESKTOP, "light")
    assert browser.execute_script(columns) >= 3


def test_figures_are_as_large_as_on_paper_and_scroll_on_a_phone_where_they_are_wide(browser, pages):
    """At 150 dots an inch 1152, 576 and 192 CSS pixels wide."""
    sizes = """return [...document.images].map(image => {
      const box = image.getBoundingClientRect(), around = image.parentElement;
      return [Math.round(box.width), Math.round(box.height), around.scrollWidth > around.clientWidth]})"""
    show(browser, pages["finished"], DESKTOP, "light")
    (wide, *_), *others = browser.execute_script(sizes)
    assert 1000 < wide <= 1152
    assert others == [[576, 192, False], [192, 192, False]]
    show(browser, pages["finished"], PHONE, "light")
    wide, middle, narrow = browser.execute_script(sizes)
    assert wide == [720, 120, True]
    assert 300 < middle[0] < PHONE
    assert middle[1:] == [round(middle[0] / 3), False]
    assert narrow == [192, 192, False]


@pytest.mark.parametrize("name", ["finished", "unfinished", "compare"])
def test_text_can_be_read_by_day_and_night(name, browser, pages):
    colours = {}
    for scheme in ("light", "dark"):
        show(browser, pages[name], PHONE, scheme)
        texts = browser.execute_script(TEXTS)
        assert len(texts) > 100
        for text in texts:
            assert contrast(text["ink"], text["paper"]) >= 4.5, text
        strokes = [curve["stroke"] for curve in browser.execute_script(CURVES)]
        heading = next(text for text in texts if text["size"] > 20)
        colours[scheme] = (heading["ink"], heading["paper"], strokes)
    ink, paper, strokes = zip(colours["light"], colours["dark"], strict=True)
    assert sum(paper[0]) > 600 > 150 > sum(paper[1])
    assert sum(ink[0]) < 150 < 600 < sum(ink[1])
    assert not set(strokes[0]) & set(strokes[1])
