"""scenes/objects asks for something: pixels do not tell the classes, and edges tell some of them."""

from benchmarks import scenes_baselines
from repre_jax.data.scenes import builder


def test_raw_pixels_leave_room_and_edges_show_that_there_is_something():
    """On a third of the training canvases and a seventh of the others; on all of them 34.3 and 67.1 %."""
    train, test = (
        [builder.record("objects", split, index) for index in range(0, builder.Scenes.RECORDS["objects"][split], step)]
        for split, step in (("train", 3), ("test", 7))
    )
    found = scenes_baselines.accuracies(train, test)
    assert 0.15 < found["raw pixels"][20] < 0.45
    assert found["HOG"][20] > found["raw pixels"][20] + 0.2
