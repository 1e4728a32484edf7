"""What is drawn of arrays: colours, labels that can be read, and files that are whole."""

import colorsys
import itertools

import cv2
import numpy as np
import pytest

from repre_jax.report.figures import attention as attention_drawing
from repre_jax.report.figures import neighbours as neighbours_drawing
from repre_jax.report.figures import reconstructions as reconstructions_drawing
from repre_jax.report.figures import sheet
from repre_jax.report.figures import tsne as tsne_drawing


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels_is_drawn(channels, tmp_path):
    """View above reconstruction above difference, in the colours that were given; the first of other channels in
    grey."""
    views, rebuilt = np.zeros((2, 4, 6, channels)), np.zeros((2, 4, 6, channels))
    views[..., 0], rebuilt[..., -1] = 1, 1
    figure = reconstructions_drawing.draw(views, rebuilt)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert [image.shape for image in shown] == [(4, 6, 3)] * 6
    white, black = (1, 1, 1), (0, 0, 0)
    expected = {1: (white, white, black), 3: ((1, 0, 0), (0, 0, 1), (1, 0, 1)), 5: (white, black, white)}[channels]
    for image, colour in zip(shown[::2], expected, strict=True):
        assert (image == colour).all()
    sheet.save(figure, tmp_path / "r.png")
    assert cv2.imread(str(tmp_path / "r.png")).std() > 10


def test_no_half_figure_is_left(tmp_path, monkeypatch):
    figure = reconstructions_drawing.draw(np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4, 3)))
    (tmp_path / "r.png").write_text("the one before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sheet.run_files, "to_disk", fail)
    with pytest.raises(OSError, match="No space"):
        sheet.save(figure, tmp_path / "r.png")
    assert [path.name for path in tmp_path.iterdir()] == ["r.png"]
    assert (tmp_path / "r.png").read_text() == "the one before"


@pytest.mark.parametrize("count", [2, 10, 20, 100])
def test_up_to_twenty_classes_differ_in_colour_and_more_in_colour_or_marker(count):
    labels = np.arange(20 * count) % count
    names = [f"class {n}" for n in range(count)]
    figure = tsne_drawing.draw(np.random.default_rng(0).random((20 * count, 2)), labels, names, title="t", caption="c")
    drawn = figure.axes[0].collections
    colours = [tuple(part.get_facecolor()[0]) for part in drawn]
    markers = [part.get_paths()[0].vertices.tobytes() for part in drawn]
    assert len(set(colours)) == min(count, 20)
    assert len(set(zip(colours, markers, strict=True))) == count
    assert all(first != second for first, second in itertools.pairwise(markers))
    hues = np.array([colorsys.rgb_to_hls(*colour[:3]) for colour in colours[:10]])
    apart = np.abs(hues[:, None] - hues).max(axis=-1) + np.eye(len(hues))
    assert apart.min() > 0.03
    assert drawn[0].get_sizes()[0] >= 18
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names


def test_encoders_side_by_side_have_a_row_of_maps_and_one_of_patches():
    """Of as many patches as each has; those that are not kept are tinted."""
    rng = np.random.default_rng(0)
    images, maps = np.ones((2, 16, 16, 3)), [rng.random((2, 4, 4)), rng.random((2, 2, 2))]
    kept = [of_one > 0.5 for of_one in maps]
    figure = attention_drawing.compare(images, maps, kept, ["a", "b"], below="60%", title="t", caption="c")
    axes = np.reshape(figure.axes, (2, 2, 3))
    assert [axis.get_title() for axis in axes[0, 0]] == ["image", "a", "b"]
    for row, cells in enumerate(axes):
        assert [text.get_text() for text in cells[1, 0].texts] == ["60%"]
        for column in range(2):
            np.testing.assert_array_equal(cells[0, column + 1].images[0].get_array(), maps[column][row])
            patch = 16 // kept[column].shape[1]
            white = (cells[1, column + 1].images[0].get_array() == 1).all(axis=-1)
            np.testing.assert_array_equal(white[::patch, ::patch], kept[column][row])


@pytest.mark.parametrize(("heads", "size"), [(1, (32, 32)), (12, (32, 32)), (3, (64, 16)), (3, (16, 64))])
def test_nothing_is_cut_off_and_no_titles_overlap(heads, size):
    """Of 12 heads as of one, of tall images as of wide ones, with long names and a caption wider than the images."""
    images, maps = np.zeros((1, *size, 3)), np.random.default_rng(0).random((1, heads, size[0] // 8, size[1] // 8))
    names = [f"multi-level features\na-long-name-{head + 1}" for head in range(heads)]
    name = "a-name-" * 8
    figure = attention_drawing.draw(
        images, maps, maps > 0.5, names, below="60% of\nthe sum", title=f"Attention\n{name}", caption="word " * 60
    )
    figure.draw_without_rendering()
    texts = [figure._suptitle, figure._supxlabel, *(axis.title for axis in figure.axes if axis.get_title())]
    assert len(texts) == 2 + 1 + heads + (heads == 1)
    boxes = [text.get_window_extent().padded(-2) for text in texts]  # which leave room above letters
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    whole = figure.bbox
    for box in boxes:
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert min(figure.axes[0].get_window_extent().size) > 0.7 * figure.dpi  # inches: the text leaves room for images


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [([[0.9, 0.5], [0.3, 0.1]], 3), ([[0.9991, 0.9987]], 4), ([[1.0, 1.0 - 1e-9]], 5), ([[0.5, 0.5]], 3), ([[0.5]], 3)],
)
def test_similarities_are_told_apart(similarity, expected):
    assert neighbours_drawing.decimals(np.array(similarity)) == expected


def test_a_title_that_is_no_text_can_be_drawn(tmp_path):
    """A data set's path may have bytes that are not UTF-8, which matplotlib refuses."""
    figure, _ = sheet.images(1, ["a"], (8, 8), title="folder:caf\udce9", caption="c")
    assert figure.get_suptitle() == "folder:caf\\xe9"
    sheet.save(figure, tmp_path / "r.png")
