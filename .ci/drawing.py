"""Draws docs/repre.svg, what RePre is in one picture: python .ci/drawing.py

An SVG with a ground of its own, light or dark as the reader's system is, so that it reads on any page. Letters are
the reader's own sans serif. tests/test_docs.py holds the committed file to what this prints.
"""

import itertools
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "docs" / "repre.svg"
STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 13px sans-serif; text-anchor: middle }
  .small { font-size: 11px; fill: #59636e } .online { fill: #ddf4ff; stroke: #0969da } .target { fill: #f6f8fa }
  .target { stroke: #818b98 } .rebuilds { fill: #fff1e5; stroke: #bc4c00 } .loss { fill: #dafbe1; stroke: #1a7f37 }
  .pixels { fill: #eaeef2; stroke: #59636e } path { fill: none; stroke: #59636e; stroke-width: 1.5 }
  .average { stroke-dasharray: 4 4 } .head { fill: #59636e; stroke: none }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc } .small { fill: #9198a1 }
    .online { fill: #0c2d4f; stroke: #4493f8 } .target { fill: #212830; stroke: #9198a1 }
    .rebuilds { fill: #4a2206; stroke: #db6d28 } .loss { fill: #0f3d20; stroke: #3fb950 }
    .pixels { fill: #2a313c; stroke: #9198a1 } path { stroke: #9198a1 } .head { fill: #9198a1 }
  }
"""
WIDTH, HEIGHT, TALL = 900, 430, 56
TARGET_ROW, ONLINE_ROW, DECODER_ROW = 36, 148, 286  # upper edges
IMAGE, DEPTHS, PROJECTOR, PREDICTOR, CONTRASTIVE = 40, (180, 266, 352, 438), 552, 660, 770  # left edges


def box(x: int, y: int, width: int, kind: str, *lines: str, height: int = TALL) -> str:
    """A rounded rectangle with centred lines; kind: a class of STYLE."""
    first = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{kind}"/>' + "".join(
        f'<text x="{x + width / 2:g}" y="{first + 16 * row:g}">{line}</text>' for row, line in enumerate(lines)
    )


def label(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" class="small">{text}</text>'


def arrow(*points: tuple[int, int], kind: str = "") -> str:
    """A line through the points, with a head at the last."""
    way = " ".join(f"{'ML'[place > 0]}{x} {y}" for place, (x, y) in enumerate(points))
    return f'<path d="{way}" class="{kind}" marker-end="url(#head)"/>'


def drawing() -> str:
    """The whole file."""
    target, online, decoder = (row + TALL // 2 for row in (TARGET_ROW, ONLINE_ROW, DECODER_ROW))  # middles
    last = DEPTHS[-1] + 76
    parts = [f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" class="ground"/>']
    # The target network, above.
    parts += [
        box(IMAGE, TARGET_ROW, 76, "pixels", "view 2"),
        box(DEPTHS[0], TARGET_ROW, last - DEPTHS[0], "target", "target encoder"),
        box(PROJECTOR, TARGET_ROW, 90, "target", "projector"),
        arrow((IMAGE + 76, target), (DEPTHS[0], target)),
        arrow((last, target), (PROJECTOR, target)),
        arrow((347, ONLINE_ROW), (347, TARGET_ROW + TALL), kind="average"),
        label(400, 124, "moving average"),
    ]
    # The online network.
    parts += [box(IMAGE, ONLINE_ROW, 76, "pixels", "view 1"), arrow((IMAGE + 76, online), (DEPTHS[0], online))]
    for x, blocks in zip(DEPTHS, ("1 to 3", "4 to 6", "7 to 9", "10 to 12"), strict=True):
        parts.append(box(x, ONLINE_ROW, 76, "online", "blocks", blocks))
    parts += [arrow((a + 76, online), (b, online)) for a, b in itertools.pairwise(DEPTHS)]
    parts += [
        label(232, ONLINE_ROW - 10, "encoder: ViT or Swin"),
        box(PROJECTOR, ONLINE_ROW, 90, "online", "projector"),
        box(PREDICTOR, ONLINE_ROW, 90, "online", "predictor"),
        arrow((last, online), (PROJECTOR, online)),
        arrow((PROJECTOR + 90, online), (PREDICTOR, online)),
        box(CONTRASTIVE, TARGET_ROW, 96, "loss", "contrastive", "loss"),
        arrow((PROJECTOR + 90, target), (CONTRASTIVE, target)),
        arrow((PREDICTOR + 90, online), (CONTRASTIVE + 24, online), (CONTRASTIVE + 24, TARGET_ROW + TALL)),
    ]
    # The decoder, from deep to shallow.
    parts += [box(x, DECODER_ROW, 76, "rebuilds", "concat,", "conv") for x in DEPTHS[:3]]
    parts += [arrow((x + 38, ONLINE_ROW + TALL), (x + 38, DECODER_ROW)) for x in DEPTHS[:3]]
    deepest = DEPTHS[-1] + 38
    parts += [
        arrow((deepest, ONLINE_ROW + TALL), (deepest, decoder), (DEPTHS[2] + 76, decoder)),
        arrow((DEPTHS[2], decoder), (DEPTHS[1] + 76, decoder)),
        arrow((DEPTHS[1], decoder), (DEPTHS[0] + 76, decoder)),
        arrow((DEPTHS[0], decoder), (IMAGE + 76, decoder)),
        label(148, decoder - 8, "1x1"),
        label(560, 250, "patch tokens of several depths"),
        label(305, DECODER_ROW + TALL + 18, "decoder"),
        box(IMAGE, DECODER_ROW, 76, "pixels", "pixels"),
        box(IMAGE + 6, 228, 64, "loss", "L1", height=34),
        arrow((IMAGE + 38, ONLINE_ROW + TALL), (IMAGE + 38, 228)),
        arrow((IMAGE + 38, DECODER_ROW), (IMAGE + 38, 262)),
    ]
    # Both losses.
    parts += [
        box(PROJECTOR, DECODER_ROW, 314, "loss", "exp(-s) contrastive + s + exp(-t) L1 + t"),
        label(PROJECTOR + 157, DECODER_ROW + TALL + 18, "the weights of both losses are learned, as s and t"),
        arrow((CONTRASTIVE + 72, TARGET_ROW + TALL), (CONTRASTIVE + 72, DECODER_ROW)),
        arrow((IMAGE + 6, 245), (20, 245), (20, 382), (520, 382), (520, decoder), (PROJECTOR, decoder)),
        label(450, 410, "After pre-training the encoder is kept; all else is dropped."),
    ]
    head = '<marker id="head" markerWidth="7" markerHeight="6" refX="6" refY="3" orient="auto">'
    head += '<path d="M0 0 L7 3 L0 6 Z" class="head"/></marker>'
    title = "RePre: a contrastive loss, and pixels rebuilt from several depths of the encoder"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{title}</title>\n'
        f"<style>{STYLE}</style>\n<defs>{head}</defs>\n" + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    TARGET.write_text(drawing())
    sys.exit(0)
