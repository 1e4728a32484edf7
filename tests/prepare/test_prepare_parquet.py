"""`prepare imagenet2012` from the hub's parquet shards: the same data set as from the archives, and what is told of
shards that are not whole, of other columns or of labels in another order."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import folder, imagenet, parquet
from tests.helpers import shards
from tests.helpers.preparing import records, run

COMMAND = ("imagenet2012", "--partial", "--from")


@pytest.fixture
def hub(tmp_path):
    return shards.write_all(tmp_path / "hub")


def test_the_order_of_labels_is_that_of_sorted_wordnet_ids():
    """What the hub's labels are, and TFDS's: one number is one class in both."""
    names = imagenet.class_names()
    assert len(names) == 1000
    assert names == sorted(names)
    assert all(re.fullmatch(r"n\d{8}", name) for name in names)
    assert (names[0], names[999]) == ("n01440764", "n15075141")
    assert set(imagenet._package_lines("validation_labels.txt")) == set(names)


@pytest.mark.parametrize("place", ["data", "."])
def test_shards_give_what_the_archives_do(hub, archives, tmp_path, capsys, place):
    """Names, labels and images, to the byte, whichever folder the shards lie in."""
    if place == ".":
        for file in (hub / "data").iterdir():
            file.rename(hub / file.name)
    assert run(*COMMAND, hub, "--data-dir", tmp_path / "ours") == 0
    said = capsys.readouterr().out
    for words in ("train              12 images in", "validation          3 images in", "12 labels compared with"):
        assert words in said
    assert run(*COMMAND, archives, "--data-dir", tmp_path / "theirs") == 0
    for split in ("train", "validation"):
        ours, theirs = (records(tmp_path / who / "imagenet2012" / "5.1.0", split)[0] for who in ("ours", "theirs"))
        assert ours.keys() == theirs.keys()
        for name, record in theirs.items():
            assert record["label"] == ours[name]["label"]
            assert record["image"] == ours[name]["image"], name


def test_images_without_names_are_called_by_their_classes(tmp_path, capsys):
    rows = [row | {"image": row["image"] | {"path": None}} for row in shards.train_rows()]
    shards.write(tmp_path / "train-00000-of-00001.parquet", rows, imagenet.class_names())
    assert run(*COMMAND, tmp_path, "--data-dir", tmp_path / "ours") == 0
    assert "12 labels compared with" in capsys.readouterr().out, "with the shard's own list of classes"
    train, builder = records(tmp_path / "ours" / "imagenet2012" / "5.1.0", "train")
    assert len(train) == 12
    for name, record in train.items():
        assert re.fullmatch(r"n\d{8}_at_\d{7}\.JPEG", name)
        assert name[:9] == builder.info.features["label"].int2str(record["label"])


def test_words_for_classes_tell_nothing_of_their_order(tmp_path, capsys):
    rows = [row | {"image": row["image"] | {"path": "a.jpg"}} for row in shards.train_rows()[:1]]
    shards.write(tmp_path / "train-00000-of-00001.parquet", rows)
    assert run(*COMMAND, tmp_path, "--data-dir", tmp_path / "ours") == 0
    assert "          0 labels compared with" in capsys.readouterr().out


def test_rows_are_read_in_any_order(hub):
    """Groups of 3 over two shards, back and forth; no more groups are held than KEPT."""
    listed = imagenet.find(hub).images("train")
    rows = shards.train_rows()
    assert len(listed) == 12
    for index in (11, 0, 5, 7, 8, 2, 3, 10, 6, 1, 9, 4, 0):
        assert listed[index]["image"] == rows[index]["image"]["bytes"], index
        assert listed.name(index).startswith(f"train-0000{int(index >= 8)}-of-00002.parquet: n")
        assert len(listed.images._groups) <= parquet.KEPT


def test_a_missing_shard_is_named(hub, tmp_path, capsys):
    (hub / "data" / "train-00000-of-00002.parquet").unlink()
    assert run("imagenet2012", "--from", hub, "--data-dir", tmp_path / "ours") == 1
    said = capsys.readouterr().err
    assert "train: 4 of 1,281,167 images; missing train-00000-of-00002.parquet\n" in said
    assert "or these shards again" in said
    assert run(*COMMAND, hub, "--data-dir", tmp_path / "ours") == 0


def test_a_folder_without_shards_says_what_was_looked_for(tmp_path, capsys):
    (tmp_path / "hub").mkdir()
    assert run(*COMMAND, tmp_path / "hub", "--data-dir", tmp_path / "ours") == 1
    assert "nor train-*.parquet was found" in capsys.readouterr().err
    assert run(*COMMAND, tmp_path / "none", "--data-dir", tmp_path / "ours") == 1
    assert f"{tmp_path / 'none'} is not a folder.\n  change:   --from=DIR" in capsys.readouterr().err


def refused(file, capsys, tmp_path):
    """What is said of a shard: one message that names it."""
    assert run(*COMMAND, file.parent.parent, "--data-dir", tmp_path / "ours") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(file) in said
    assert not (tmp_path / "ours" / "imagenet2012" / "5.1.0").exists()
    return said


@pytest.mark.parametrize("kept", [0, 7, -50])
def test_a_shard_that_was_cut_short_is_named(hub, tmp_path, capsys, kept):
    file = hub / "data" / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:kept])
    said = refused(file, capsys, tmp_path)
    assert f"({file.stat().st_size:,} bytes) is no whole parquet file: " in said
    assert "fetch:    this file again" in said


def test_a_damaged_group_is_named(hub, tmp_path, capsys):
    """Beyond the footer: the numbers of the last column of images are overwritten."""
    file = hub / "data" / "train-00001-of-00002.parquet"
    found = pq.read_metadata(file).row_group(0).column(0)
    assert found.path_in_schema == "image.bytes"
    content = bytearray(file.read_bytes())
    start = found.dictionary_page_offset or found.data_page_offset
    content[start : start + found.total_compressed_size] = b"\xff" * found.total_compressed_size
    file.write_bytes(content)
    assert "is no whole parquet file" in refused(file, capsys, tmp_path)


@pytest.mark.parametrize(
    ("table", "given"),
    [
        ({"text": ["a"]}, "text (byte_array)"),
        ({"image": [b"x"], "label": [1]}, "image (byte_array), label (int64)"),
        ({"image": [{"bytes": b"x", "path": "a"}], "label": ["n01440764"]}, "label (byte_array)"),
        ({"image": [{"bytes": b"x", "path": "a"}], "label": [0.5]}, "label (double)"),
    ],
)
def test_other_columns_are_named(hub, tmp_path, capsys, table, given):
    file = hub / "data" / "train-00000-of-00002.parquet"
    pq.write_table(pa.table(table), file)
    said = refused(file, capsys, tmp_path)
    assert "has not the columns of images with labels" in said
    assert given in said
    assert "expected: image (bytes and path) and label" in said


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (1, r"n01440764_1\w+\.JPEG has label 1, which is class n01443537; its name tells n01440764"),
        (-1, r"an image of label -1, n01440764\w+\.JPEG"),
        (1000, r"an image of label 1000"),
        (None, r"rows without a label, such as row 0"),
    ],
)
def test_a_label_in_another_order_is_named(hub, tmp_path, capsys, label, expected):
    rows = [row for row in shards.train_rows() if row["image"]["path"].startswith("n01440764_1")]
    file = hub / "data" / "train-00000-of-00002.parquet"
    shards.write(file, [row | {"label": label} for row in rows])
    assert re.search(expected, refused(file, capsys, tmp_path))


def test_a_validation_label_is_compared_by_its_number(hub, tmp_path, capsys):
    """Where the name has no class's id, as in the archive."""
    file = hub / "data" / "validation-00000-of-00001.parquet"
    rows = shards.validation_rows()
    plain = [row | {"image": row["image"] | {"path": row["image"]["path"][:23] + ".JPEG"}} for row in rows]
    shards.write(file, plain)
    assert imagenet.find(hub).shards["validation"].compared == 3
    shards.write(file, [row | {"label": (row["label"] + 1) % 1000} for row in plain])
    assert "ILSVRC2012_val_00000001.JPEG has label" in refused(file, capsys, tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["n01440764", "n01443537"], "lists 2 classes"),
        (["n01443537", "n01440764"], "lists n01443537 as class 0"),
    ],
)
def test_a_list_of_classes_in_another_order_is_named(hub, tmp_path, capsys, names, expected):
    file = hub / "data" / "train-00000-of-00002.parquet"
    whole = names if "2 classes" in expected else [*names, *imagenet.class_names()[2:]]
    shards.write(file, shards.train_rows()[:8], whole)
    assert expected in refused(file, capsys, tmp_path)


def test_two_copies_side_by_side_are_refused(hub):
    shards.write(hub / "data" / "train-00000-of-00003.parquet", shards.train_rows())
    with pytest.raises(UserError, match="more than one copy, or of other names: train-00000-of-00002"):
        imagenet.find(hub)


def test_a_row_without_bytes_is_named(hub, tmp_path, capsys):
    """As in shards that name files which lie elsewhere."""
    rows = shards.train_rows()[:8]
    rows[5]["image"]["bytes"] = None
    shards.write(hub / "data" / "train-00000-of-00002.parquet", rows)
    assert run(*COMMAND, hub, "--data-dir", tmp_path / "ours") == 1
    said = capsys.readouterr().err
    assert "1 file is no readable image" in said
    assert (
        f"train-00000-of-00002.parquet: {rows[5]['image']['path'][:11]}.JPEG" in said and "the row has no bytes" in said
    )
    assert run(*COMMAND, hub, "--skip-unreadable", "--data-dir", tmp_path / "ours") == 0


def test_training_from_shards_says_to_convert_them(hub):
    with pytest.raises(
        UserError, match=r"holds parquet shards, such as test-0.*\n.*\n  change: .*prepare imagenet2012"
    ):
        folder.scan(hub)
