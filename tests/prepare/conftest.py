"""ImageNet in miniature, as its archives and extracted."""

import io
import tarfile

import pytest

from tests.helpers.miniature import TRAIN, VALIDATION, add


@pytest.fixture
def archives(tmp_path):
    """Both official archives: train's holds one archive a class, validation's lies flat, not in the names' order."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for name, images in TRAIN.items():
            inner_bytes = io.BytesIO()
            with tarfile.open(fileobj=inner_bytes, mode="w") as inner:
                for file, data in images.items():
                    add(inner, file, data)
            add(outer, f"{name}.tar", inner_bytes.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as flat:
        for file, data in reversed(VALIDATION.items()):
            add(flat, file, data)
    return folder


@pytest.fixture
def folders(tmp_path):
    """The same, extracted."""
    root = tmp_path / "extracted"
    for name, images in TRAIN.items():
        (root / "train" / name).mkdir(parents=True)
        for file, data in images.items():
            (root / "train" / name / file).write_bytes(data)
    (root / "val").mkdir()
    for file, data in VALIDATION.items():
        (root / "val" / file).write_bytes(data)
    return root
