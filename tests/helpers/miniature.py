"""ImageNet in miniature: three of its classes, and what its archives hold of them."""

import io
import tarfile

import numpy as np
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n15075141")


def picture(number, kind="JPEG", mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((60 + number, 50)).convert(mode).save(stream, kind)
    return stream.getvalue()


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


TRAIN = {name: {f"{name}_{i}.JPEG": picture(i) for i in range(4)} for name in CLASSES}
TRAIN[CLASSES[0]][f"{CLASSES[0]}_0.JPEG"] = picture(7, "PNG")  # as n02105855_2933.JPEG is
TRAIN[CLASSES[1]][f"{CLASSES[1]}_0.JPEG"] = picture(8, mode="CMYK")
VALIDATION = {f"ILSVRC2012_val_{number:08}.JPEG": picture(number) for number in (1, 2, 50_000)}
