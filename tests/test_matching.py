"""What a detection is, by hand: right, or wrong in one of five ways; and which objects were missed."""

import numpy as np

from repre_jax.evaluation import matching
from repre_jax.evaluation.matching import Objects, Verdict
from repre_jax.report.figures import detection as drawing
from repre_jax.report.figures import precision

TRUTH = Objects(
    np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 90, 30]], np.float32),
    np.array([0, 1, 0, 2], np.int32),
    crowds=np.array([False, False, False, True]),
)
FOUND = (  # box, class, what it is
    ([0, 0, 10, 10], 0, Verdict.RIGHT),
    ([0, 0, 10, 9], 0, Verdict.TWICE),
    ([20, 0, 30, 10], 0, Verdict.CLASS),
    ([20, 0, 24, 10], 1, Verdict.PLACE),  # IoU 0.4
    ([70, 10, 75, 15], 2, Verdict.CROWD),  # all of it lies in the crowd
    ([70, 10, 75, 15], 1, Verdict.NOTHING),
    ([0, 20, 10, 30], 0, Verdict.NOTHING),
    ([40, 0, 50, 5], 0, Verdict.RIGHT),  # IoU 0.5 exactly
)


def objects(rows):
    boxes, classes, _ = zip(*rows, strict=True)
    return Objects(np.array(boxes, np.float32), np.array(classes, np.int32), np.linspace(0.9, 0.2, len(rows)))


def test_each_detection_is_what_it_is():
    found, truth = matching.verdicts(objects(FOUND), TRUTH)
    assert found == [verdict for _, _, verdict in FOUND]
    assert truth == [Verdict.RIGHT, Verdict.MISSED, Verdict.RIGHT, Verdict.CROWD]
    found, _ = matching.verdicts(objects(FOUND).alike(), TRUTH.alike())
    whatever_its_class = {Verdict.CLASS: Verdict.RIGHT}
    expected = [whatever_its_class.get(verdict, verdict) for _, _, verdict in FOUND]
    expected[3], expected[5] = Verdict.PLACE, Verdict.CROWD
    assert found == expected


def test_an_object_is_taken_once_by_the_first_that_fits():
    """Of two objects the better placed one, and the second detection gets the other."""
    truth = Objects(np.array([[0, 0, 10, 10], [2, 0, 12, 10]], np.float32), np.zeros(2, np.int32))
    rows = [([2, 0, 12, 10], 0, None), ([2, 0, 12, 10], 0, None), ([2, 0, 12, 10], 0, None)]
    found, known = matching.verdicts(objects(rows), truth)
    assert found == [Verdict.RIGHT, Verdict.RIGHT, Verdict.TWICE]
    assert known == [Verdict.RIGHT] * 2
    assert matching.counts(found) == {Verdict.RIGHT: 2, Verdict.TWICE: 1}


def test_nothing_found_and_nothing_there():
    nothing = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert matching.verdicts(nothing, TRUTH)[1].count(Verdict.MISSED) == 3
    empty = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    assert matching.verdicts(objects(FOUND), empty) == ([Verdict.NOTHING] * len(FOUND), [])
    assert len(objects(FOUND).above(0.5)) == 5


def test_what_is_drawn_of_an_image():
    """Names with scores, masks in the classes' colours, mistakes in theirs and the missed one dashed; large images are
    drawn smaller, and their boxes with them."""
    image, masks = np.zeros((40, 100, 3), np.uint8), np.zeros((1, 40, 100), bool)
    masks[0, :10, :10] = True
    found = Objects(np.array([[0, 0, 10, 10]], np.float32), np.array([1]), np.array([0.87]), masks)
    shown = [drawing.Detected(image, found, TRUTH, "a.jpg")]
    figure = drawing.draw(shown, ("cat", "dog", "cow"), title="t", caption="c")
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["image", "ground truth", "detections", "mistakes"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["cat", "dog", "cat", "crowd: cow"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["dog 0.87"]
    tinted = figure.axes[2].images[0].get_array()
    assert tinted[masks[0]].any(axis=-1).all()
    assert not tinted[~masks[0]].any()
    styles = [box.get_linestyle() for box in figure.axes[3].patches]
    assert styles == ["-", "--", "--", "--"]
    assert figure.axes[3].get_xlabel() == "1 wrong, 3 missed"
    large = np.zeros((1280, 640, 3), np.uint8)
    at = Objects(np.array([[100, 200, 300, 400]], np.float32), np.array([0]), np.array([0.5]))
    figure = drawing.draw([drawing.Detected(large, at)], ("cat",), title="t", caption="c")
    assert [axis.get_title() for axis in figure.axes] == ["image", "detections"]
    (box,) = figure.axes[1].patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((49.5, 99.5), 100, 100)


def test_precision_is_drawn_of_the_classes_that_there_are():
    """A class without an object, -1 in the curves, is left out of the mean."""
    curves = np.full((10, 101, 3), -1.0)
    curves[:, :, 0], curves[:, :51, 1], curves[:, 51:, 1] = 1.0, 0.5, 0.0
    classes = {"cat": 1.0, "dog": 0.25}
    counted = {Verdict.RIGHT: 7, Verdict.MISSED: 2}
    figure = precision.draw({"box": curves}, {"box": classes}, counted, title="t", caption="c")
    lines, bars, mistakes = figure.axes
    np.testing.assert_allclose(lines.lines[0].get_ydata()[[0, 50, 51, 100]], [0.75, 0.75, 0.5, 0.5])
    assert lines.get_title() == f"box AP {curves[:, :, :2].mean():.1%}"
    assert [text.get_text() for text in bars.get_yticklabels()] == ["cat", "dog"]
    assert [text.get_text() for text in mistakes.get_yticklabels()] == ["right", "missed"]
    assert [bar.get_width() for bar in mistakes.patches] == [7, 2]
