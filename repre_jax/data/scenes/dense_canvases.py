"""scenes/dense and scenes/unlabelled: several emoji on a crop of a photograph, partly hidden, with their exact masks.

A pixel belongs to the uppermost object that covers at least half of it, so masks of one canvas are disjoint.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from repre_jax.data.scenes import concepts, photographs, pictures, shown

HEIGHT, WIDTH = 96, 128
RECORDS = {"train": 2000, "test": 400, "unseen": 400}
SEED = (2, {"train": 0, "test": 1, "unseen": 2})
OBJECTS = (2, 6)  # that are visible enough, at least and at most
SIDE = (24.0, 62.0)  # of an object's square, in pixels
TURN = 20.0  # degrees, at most
CROWDS = 0.15  # of the canvases have a heap instead of one of the objects
HEAP, HEAP_SIDE, HEAP_SPREAD = (6, 12), (13.0, 19.0), 11.0
VISIBLE = 0.25  # of an object, at least; what hides more of it may be another one or the edge of the canvas
PIXELS = 24  # that are visible of it, at least
SHADOW = 0.35  # how dark it is below an object
PAD = 36  # around a canvas, for what stands out of it
IDS = 8  # annotation ids a canvas, more than it can have objects
BACKGROUND, IGNORED = 0, 255  # in a label map


@dataclass(frozen=True)
class Annotation:
    """An object as COCO describes it. mask: of what is visible, bool [96, 128]. iscrowd: a heap of the same things.

    id: from 1, another one for each object of a split. concept, file: what it shows, and by which picture.
    """

    id: int
    category_id: int
    mask: np.ndarray
    iscrowd: bool
    concept: str
    file: str


@dataclass(frozen=True)
class DenseCanvas:
    """image: uint8 [96, 128, 3], RGB. annotations: the undermost object first."""

    image: np.ndarray
    annotations: tuple[Annotation, ...]
    photograph: str

    def label_map(self) -> np.ndarray:
        """uint8 [96, 128]: 0 background, 1 + the category's place in CATEGORY_IDS, 255 on borders of objects.

        The border is a pixel wide: those whose neighbour to the right or below belongs to another object or to none.
        """
        labels, owners = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2))
        for number, each in enumerate(self.annotations, 1):
            labels[each.mask] = 1 + concepts.CATEGORY_IDS.index(each.category_id)
            owners[each.mask] = number
        labels[:-1][owners[:-1] != owners[1:]] = IGNORED
        labels[:, :-1][owners[:, :-1] != owners[:, 1:]] = IGNORED
        return labels


@dataclass(frozen=True)
class Layer:
    """An object alone on a canvas with PAD around it.

    colour: premultiplied, float32 [H, W, 3] in 0..255. alpha: float32 [H, W] in 0..1.
    """

    colour: np.ndarray
    alpha: np.ndarray
    category_id: int
    iscrowd: bool
    concept: str
    file: str

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """bool, with the pad."""
        return self.alpha >= 0.5


def canvas(split: str, index: int) -> DenseCanvas:
    """Number `index` of `split`, 'train', 'test' or 'unseen', which is the same whenever it is made."""
    rng = np.random.default_rng([SEED[0], SEED[1][split], index])
    ground, photograph = photographs.background(rng, split, HEIGHT, WIDTH)
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    crowd = int(rng.integers(count)) if rng.random() < CROWDS else None
    layers = visible_enough([_layer(rng, split, heap=number == crowd) for number in range(count)])
    while len(layers) < OBJECTS[0]:  # some were outside or hidden: one more, which may hide another in turn
        layers = visible_enough([*layers, _layer(rng, split, heap=False)])
    image = ground
    for layer in layers:
        image = _over(image, layer)
    masks = [_cropped(mask) for mask in visible(layers)]
    annotations = tuple(
        Annotation(IDS * index + number, layer.category_id, mask, layer.iscrowd, layer.concept, layer.file)
        for number, (layer, mask) in enumerate(zip(layers, masks, strict=True), 1)
    )
    return DenseCanvas(np.clip(np.round(image), 0, 255).astype(np.uint8), annotations, photograph.name)


def visible(layers: Sequence[Layer]) -> list[np.ndarray]:
    """What is seen of each layer's mask below those after it, with the pad."""
    found, covered = [], np.zeros((HEIGHT + 2 * PAD, WIDTH + 2 * PAD), bool)
    for layer in reversed(layers):
        found.append(layer.mask & ~covered)
        covered |= layer.mask
    return found[::-1]


def visible_enough(layers: Sequence[Layer]) -> list[Layer]:
    """Without the layers of which less than VISIBLE, or than PIXELS, is seen on the canvas.

    From the uppermost down, since what is left out hides nothing.
    """
    kept: list[Layer] = []
    covered = np.zeros((HEIGHT + 2 * PAD, WIDTH + 2 * PAD), bool)
    for layer in reversed(layers):
        seen = np.count_nonzero(_cropped(layer.mask & ~covered))
        if seen >= max(VISIBLE * np.count_nonzero(layer.mask), PIXELS):
            kept.append(layer)
            covered |= layer.mask
    return kept[::-1]


def _layer(rng: np.random.Generator, split: str, *, heap: bool) -> Layer:
    category = concepts.CATEGORY_IDS[rng.integers(len(concepts.CATEGORY_IDS))]
    known = shown.of_split(split)[category]
    concept = known[rng.integers(len(known))]
    file = concept.files[rng.integers(len(concept.files))]
    middle = np.array([rng.uniform(0.08, 0.92) * WIDTH, rng.uniform(0.1, 0.9) * HEIGHT])
    light = rng.uniform(0.82, 1.05)

    def one(side: float, place: np.ndarray) -> np.ndarray:
        mirrored = rng.random() < 0.5 and category != concepts.SYMBOLS
        return placed(file, round(side), place, rng.uniform(-TURN, TURN), light, mirrored=mirrored)

    if not heap:
        pixels = one(np.exp(rng.uniform(*np.log(SIDE))), middle)
    else:
        pixels = np.zeros((HEIGHT + 2 * PAD, WIDTH + 2 * PAD, 4), np.float32)
        for _ in range(rng.integers(HEAP[0], HEAP[1] + 1)):
            small = one(rng.uniform(*HEAP_SIDE), middle + rng.normal(0, HEAP_SPREAD, 2).clip(-25, 25))
            pixels = small + pixels * (1 - small[..., 3:])
    return Layer(pixels[..., :3], pixels[..., 3].copy(), category, heap, concept.name, file)


def placed(file: str, side: int, middle: np.ndarray, degrees: float, light: float, *, mirrored: bool) -> np.ndarray:
    """An emoji of side x side pixels, turned, its middle at (x, y) of the canvas.

    Premultiplied colour, `light` times as bright, and alpha, float32 [H, W, 4] with the pad.
    """
    small = pictures.shrunk(file, side) * np.array([light, light, light, 1], np.float32)
    small = small[:, ::-1] if mirrored else small
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = middle + PAD - 0.5 - turn @ np.full(2, (side - 1) / 2)
    size = (WIDTH + 2 * PAD, HEIGHT + 2 * PAD)
    return cv2.warpAffine(small, np.column_stack([turn, offset]), size, flags=cv2.INTER_LINEAR)


def _over(image: np.ndarray, layer: Layer) -> np.ndarray:
    """`layer` on the image, below it its shadow, two pixels lower and one to the right."""
    shadow = cv2.blur(cv2.blur(layer.alpha[PAD - 10 : -PAD, PAD - 10 : -PAD], (5, 5)), (3, 3))[8:-2, 9:-1]
    through = (1 - SHADOW * shadow) * (1 - _cropped(layer.alpha))
    return image * through[..., None] + _cropped(layer.colour)


def _cropped(padded: np.ndarray) -> np.ndarray:
    return padded[PAD:-PAD, PAD:-PAD]
