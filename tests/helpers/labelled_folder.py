"""A small folder of images with label maps, of several sizes, whose colours say the class."""

import cv2
import numpy as np

SIZES = {"train": [(40, 56)] * 6, "val": [(40, 56), (48, 40), (40, 40)]}
COLOURS = np.array([(30, 200, 30), (200, 30, 60), (40, 60, 220)], np.uint8)


def write(root, sizes=SIZES, classes=3):
    """Returns {'train' or 'val': [(image, label map), ...]}, in the order of the files. Label maps have the classes
    0 .. classes - 1, of which the last is rare, and 255 in one corner."""
    made, rng = {}, np.random.default_rng(0)
    for split, of_split in sizes.items():
        made[split] = []
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for number, (height, width) in enumerate(of_split):
            labels = np.zeros((height, width), np.uint8)
            top, left = rng.integers(4, 20, 2)
            labels[top : top + 18, left : left + 18] = 1
            labels[-6:, -8:] = classes - 1
            image = COLOURS[labels] + rng.integers(0, 30, (height, width, 3)).astype(np.uint8)
            labels[:4, :4] = 255
            cv2.imwrite(str(root / "images" / split / f"{number}.png"), image[..., ::-1])
            cv2.imwrite(str(root / "labels" / split / f"{number}.png"), labels)
            made[split].append((image, labels))
    return made
