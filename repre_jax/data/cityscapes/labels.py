"""The 19 classes of Cityscapes that are scored, out of the ids that its label maps have.

TFDS stores *_gtFine_labelIds.png, whose ids are 0 to 33; the numbers that are trained on follow the order below
(cityscapesscripts helpers/labels.py:62-98, with its colours). A licence plate is -1, which 8 bits would have as 255.
"""

import numpy as np

from repre_jax.data.label_classes import IGNORED, UNKNOWN, Classes, Colour

IDS = 34  # 0 to 33 are known; those below that are not listed are ignored
# Id in the label maps, name, colour; the place here is the class.
SCORED: tuple[tuple[int, str, Colour], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)


def _table() -> bytes:
    table = np.full(256, UNKNOWN, np.uint8)
    table[:IDS] = table[IGNORED] = IGNORED
    for number, (identity, _, _) in enumerate(SCORED):
        table[identity] = number
    return table.tobytes()


CLASSES = Classes(tuple(name for _, name, _ in SCORED), tuple(colour for _, _, colour in SCORED), _table())
