"""Every head of segmentation, on each encoder that it reads, goes through `configs/segment.py:scenes,tiny`, and is used
afterwards."""

import numpy as np
import pytest

import main
import repre_jax
from repre_jax.data import segmentation, segmentation_views
from repre_jax.evaluation import confusion
from tests.helpers.evaluating import evaluate

SEGMENT = "configs/segment.py"
SPLIT = "test[:2]"


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    """A run that has pre-trained a Swin for one step."""
    workdir = tmp_path_factory.mktemp("swin") / "run"
    flags = ["--config.total_steps=1", "--config.knn.times=1", f"--workdir={workdir}"]
    assert main.main(["main.py", "--config=configs/moco_swin_t.py:baseline,tiny", *flags]) == 0
    return workdir


@pytest.fixture(scope="module")
def images(data_dir):
    """(Image, label map) of the test records."""
    opened = segmentation.open_dataset("scenes/dense", test_split=SPLIT)
    test = opened.dataset.test
    return [segmentation_views.decoded(test[number], opened.classes, 3) for number in range(len(test))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "encoder"),
    [
        *(("naive", "vit"), ("pup", "vit"), ("mla", "vit"), ("linear", "vit"), ("linear_pyramid", "vit")),
        *(("fpn", "swin"), ("linear", "swin"), ("linear_pyramid", "swin")),
    ],
)
def test_a_head_is_trained_and_gives_label_maps(head, encoder, finished, swin, images, tmp_path):
    """What the function gives of each test image is what the run has counted."""
    source = {"vit": finished[0], "swin": swin}[encoder]
    flags = (f"--config.data.test_split={SPLIT}", "--config.total_steps=2")
    result = evaluate(SEGMENT, source, tmp_path / "w", *flags, variants=f"scenes,tiny,{head}")
    assert (result["head"], result["steps"], result["skipped_steps"], result["test_images"]) == (head, 2, 0, 2)
    segment = repre_jax.load_segmenter(tmp_path / "w")
    assert segment.classes.names[0] == "background"
    total = sum(np.asarray(confusion.count(segment(image), labels, 8)) for image, labels in images)
    np.testing.assert_array_equal(total, result["confusion"])
