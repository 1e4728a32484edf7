"""scenes/objects asks for something: pixels do not tell the classes, and edges tell some of them."""

from benchmarks import scenes_baselines
from repre_jax.data.scenes import builder


def test_raw_pixels_leave_room_and_edges_show_that_there_is_something():
    """On a seventh of the canvases; on all of them 44.7 and 73.6 %."""
    train, test = (
        [builder.record("objects", split, index) for index in range(0, builder.Scenes.RECORDS["objects"][split], step)]
        for split, step in (("train", 7), ("test", 7))
    )
    found = scenes_baselines.accuracies(train, test)
    assert 0.15 < found["raw pixels"][20] < 0.45
    assert found["HOG"][20] > found["raw pixels"][20] + 0.2
