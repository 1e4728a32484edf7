"""TFRecord to ArrayRecord without TensorFlow: the same records in the same files, or a message that names the file."""

import json
import os
import shlex
import shutil
import signal

import pytest
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import conversion, record_files, sources, tfrecord
from repre_jax.tools import prepare as tool
from tests.helpers.prepared import change_info, framed, picture, prepare, to_tfrecord


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(a folder with pets 1.0.0 in ArrayRecord, the same in TFRecord); to be copied, not changed."""
    root = tmp_path_factory.mktemp("whole")
    prepare(root / "array_record")
    shutil.copytree(root / "array_record", root / "tfrecord")
    to_tfrecord(root / "tfrecord" / "pets" / "1.0.0")
    return root / "array_record", root / "tfrecord"


@pytest.fixture
def root(whole, tmp_path):
    """A folder of data sets with pets in TFRecord."""
    return shutil.copytree(whole[1], tmp_path / "tfds")


@pytest.fixture
def place(root):
    return root / "pets" / "1.0.0"


def convert(*arguments):
    return tool.main(["convert", *map(str, arguments)])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_a_run_says_of_tfrecord_is_what_converts_it(whole, root, place, capsys):
    """The advised command, typed as it is printed, and the advised flag: all records of all splits, and the source
    untouched. Files and info are those that TFDS writes in ArrayRecord."""
    before = contents(root)
    with pytest.raises(UserError, match="is stored as tfrecord") as error:
        sources.open_dataset("pets", str(root))
    lines = dict(line.strip().split(":", 1) for line in str(error.value).splitlines()[1:])
    command, flag = shlex.split(lines["convert"]), lines["change"].strip()
    assert command[:4] == ["python", "-m", "repre_jax.tools.prepare", "convert"]
    assert tool.main(command[3:]) == 0
    output = capsys.readouterr().out
    out = root.with_name("tfds-array_record")
    assert flag == f"--config.data.dir={out}"
    assert f"--config.data.dir={out} --config.data.name=pets" in output.splitlines()[-1]
    dataset = sources.open_dataset("pets", str(out))
    assert (len(dataset.train), len(dataset.test), dataset.class_names) == (20, 6, ("cat", "dog"))
    assert [record["image"] for record in dataset.train] == [picture(number) for number in range(20)]
    assert [int(record["label"]) for record in dataset.test] == [0, 1, 0, 1, 0, 1]
    assert contents(root) == before
    theirs, ours = whole[0] / "pets" / "1.0.0", out / "pets" / "1.0.0"
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert [path.name for path in ours.parent.iterdir()] == ["1.0.0"]
    for name in ("dataset_info.json", "features.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())
    for file in theirs.glob("*.array_record-*"):
        records = [tfds.builder_from_directory(each).as_data_source("all") for each in (theirs, ours)]
        assert record_files.records_in(str(ours / file.name)) == record_files.records_in(str(file))
    assert [a["label"] for a in records[0]] == [b["label"] for b in records[1]]
    with pytest.raises(UserError) as error:
        sources.open_dataset("pets", str(root))
    assert "convert:" not in str(error.value), "it was converted"
    assert str(error.value).splitlines()[-1] == f"  change:   --config.data.dir={out}"


def advised(message):
    """(The words of the command behind 'convert:', None where there is none; the flags behind 'change:', by key)."""
    lines = dict(line.strip().split(":", 1) for line in message.splitlines() if line.startswith("  c"))
    flags = [flag.removeprefix("--config.data.").split("=", 1) for flag in shlex.split(lines["change"])]
    return shlex.split(lines["convert"])[3:] if "convert" in lines else None, dict(flags)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside ArrayRecord that is not whole"])
@pytest.mark.parametrize(
    ("folder", "name", "asked"),
    [
        ("my_pets/1.0.0", "my_pets", "pets"),
        ("my_pets/1.0.0", "my_pets:1.*.*", "pets:1.0.0"),
        ("mine/pets/1.0.0", "mine/pets", "pets"),
        ("pets/1.0.1", "pets:1.0.1", "pets:1.0.0"),
    ],
)
def test_a_data_set_whose_folder_was_renamed_is_converted_as_advised(root, place, folder, name, asked, beside):
    """What was converted lies under TFDS's name: the command and the flags, typed as they are, read all records."""
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    place.rename(root / folder)
    if beside:
        change_info(root / folder, alternativeFileFormats=["array_record"])
    for converts in (True, False):
        with pytest.raises(UserError) as error:
            sources.open_dataset(name, str(root))
        command, flags = advised(str(error.value))
        assert (command is not None) == converts
        assert flags == {"name": asked, "dir": f"{root}-array_record"}
        assert not command or tool.main(command) == 0
    dataset = sources.open_dataset(flags["name"], flags["dir"])
    assert [record["image"] for record in dataset.train] == [picture(number) for number in range(20)]


def test_the_checksum_is_tfrecords():
    """Of RFC 3720's example, 32 bytes of zeros, masked."""
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert framed(b"")[:8] == bytes(8)


def flip(at):
    def damage(data):
        data = bytearray(data)
        data[at] ^= 1
        return bytes(data)

    return damage


DAMAGE = {
    "a length": (flip(3), "the checksum of a length is wrong", "record 0, at byte 0"),
    "its checksum": (flip(9), "the checksum of a length is wrong", "record 0, at byte 0"),
    "a byte": (flip(1000), "the checksum of a record is wrong", "record 0, at byte 0"),
    "the last checksum": (flip(-1), "the checksum of a record is wrong", "record 6"),
    "cut by a byte": (lambda data: data[:-1], "the file ends within a record", "record 6"),
    "cut in a header": (lambda data: data + bytes(5), "the file ends within a record", "record 7"),
    "half a record": (lambda data: data[:-3000], "the file ends within a record", "record 6"),
    "empty": (lambda data: b"", "has 0 of 7 records", ""),
    "a record more": (lambda data: data + framed(b"more"), "has 8 of 7 records", ""),
    "compressed": (lambda data: b"\x1f\x8b" + data, "is no TFRecord file", "record 0"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_nothing_appears_under_its_name(place, tmp_path, capsys, damage):
    apply, *words = DAMAGE[damage]
    file = place / "pets-train.tfrecord-00000-of-00003"
    file.write_bytes(apply(file.read_bytes()))
    assert convert(place, "--data-dir", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert all(word in error for word in words)
    assert "\n  change:   copy this file again" in error
    assert not (tmp_path / "out" / "pets" / "1.0.0").exists()


def test_a_file_that_is_missing_is_named(place, tmp_path, capsys):
    (place / "pets-train.tfrecord-00001-of-00003").unlink()
    assert convert(place, "--data-dir", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"1 file of records is missing in {place}: pets-train.tfrecord-00001-of-00003\n" in error
    assert not (tmp_path / "out").exists()


def test_a_conversion_goes_on_where_it_was_ended(place, tmp_path, capsys, monkeypatch):
    """Whole files are kept, half ones and those of files that changed since are written anew."""
    file = place / "pets-train.tfrecord-00002-of-00003"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert convert(place, "--data-dir", tmp_path / "out") == 1
    file.write_bytes(whole)
    work = tmp_path / "out" / "pets" / "incomplete.converted_1.0.0"
    done = {path.name: path.stat().st_mtime_ns for path in work.glob("*.array_record-*") if path.suffix != ".part"}
    assert done
    changed, kept = "pets-train.array_record-00000-of-00003", "pets-train.array_record-00001-of-00003"
    os.utime(place / changed.replace("array_record", "tfrecord"), (2e9, 2e9))
    read = []
    records = tfrecord.records
    monkeypatch.setattr(tfrecord, "records", lambda path: read.append(path.name) or records(path))
    assert convert(place, "--data-dir", tmp_path / "out") == 0
    assert file.name in read
    assert changed.replace("array_record", "tfrecord") in read
    if kept in done:
        assert kept.replace("array_record", "tfrecord") not in read
    assert not work.exists()
    assert [r["image"] for r in sources.open_dataset("pets", str(tmp_path / "out")).train] == [
        picture(number) for number in range(20)
    ]


def test_ctrl_c_ends_it_between_two_records(place, tmp_path, capsys, monkeypatch):
    records, sent = tfrecord.records, []

    def interrupted(path):
        for record in records(path):
            yield record
            if not sent:
                sent.append(os.kill(os.getpid(), signal.SIGINT))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with monkeypatch.context() as slow:
            slow.setattr(tfrecord, "records", interrupted)
            assert convert(place, "--data-dir", tmp_path / "out") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "The same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out" / "pets" / "1.0.0").exists()
    assert convert(place, "--data-dir", tmp_path / "out") == 0
    assert len(sources.open_dataset("pets", str(tmp_path / "out")).train) == 20


def test_what_an_unfinished_conversion_has_written_is_not_prepared_over(place, tmp_path, capsys):
    """Said before anything is looked at; the command that the message has goes on with it."""
    out = tmp_path / "my data's"
    file = place / "pets-train.tfrecord-00002-of-00003"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert convert(place, "--data-dir", out) == 1
    file.write_bytes(whole)
    work = out / "pets" / "incomplete.converted_1.0.0"
    before = contents(work)
    assert before
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert tool.main(["folder", f"--from={tmp_path / 'empty'}", "--name=pets", f"--data-dir={out}"]) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"{work} is what an interrupted conversion has written so far.\n")
    assert "or another --name" in told.err
    assert (contents(work), told.out) == (before, "")
    (line,) = [line for line in told.err.splitlines() if line.startswith("  go on:")]
    assert tool.main(shlex.split(line.removeprefix("  go on:"))[3:]) == 0
    assert [r["image"] for r in sources.open_dataset("pets", str(out)).train] == [picture(n) for n in range(20)]


def test_another_source_does_not_go_on_with_what_is_there(root, place, tmp_path):
    work = tmp_path / "out" / "pets" / "incomplete.converted_1.0.0"
    work.mkdir(parents=True)
    (work / conversion.SOURCE).write_text("/elsewhere")
    (work / "stray.json").write_text("{}")
    assert convert(place, "--data-dir", tmp_path / "out") == 0
    assert not (tmp_path / "out" / "pets" / "1.0.0" / "stray.json").exists()


def test_never_over_what_is_there(root, place, tmp_path, capsys):
    before = contents(root)
    assert convert(place, "--data-dir", root) == 1
    assert "is what is to be converted" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(root)
    assert convert(place, "--data-dir", tmp_path / "link") == 1
    assert contents(root) == before
    assert convert(root / "pets") == 0
    assert convert(place) == 1
    assert f"{root}-array_record/pets/1.0.0 is there already" in capsys.readouterr().err
    assert convert(f"{root}-array_record/pets/1.0.0") == 1
    assert "is stored as array_record already" in capsys.readouterr().err


def test_array_record_in_folders_of_other_names_is_read_as_advised(whole, tmp_path, capsys):
    place = shutil.copytree(whole[0] / "pets" / "1.0.0", tmp_path / "my data's" / "mine" / "1.0.0")
    assert convert(place) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{place} is stored as array_record already.\n")
    _, flags = advised(error)
    assert flags == {"name": "mine", "dir": str(tmp_path / "my data's")}
    assert [r["image"] for r in sources.open_dataset(flags["name"], flags["dir"]).train] == [
        picture(n) for n in range(20)
    ]
    assert convert(place.rename(place.with_name("newest"))) == 1
    assert "change:   move it into a folder called as its version" in capsys.readouterr().err


def test_what_cannot_be_converted_is_named(root, place, tmp_path, capsys):
    for given, words in (
        (tmp_path / "none", "is not a folder"),
        (root, "is not the folder of one version"),
        (shutil.copytree(place, tmp_path / "elsewhere"), "does not lie as TFDS has it, in .../pets/1.0.0"),
    ):
        assert convert(given) == 1
        assert words in (error := capsys.readouterr().err)
        assert "\n  change:   " in error
    assert convert(tmp_path / "elsewhere", "--data-dir", tmp_path / "out") == 0
    assert len(sources.open_dataset("pets", str(tmp_path / "out")).train) == 20
    change_info(place, fileFormat="riegeli")
    assert convert(place) == 1
    assert "is stored as riegeli" in (error := capsys.readouterr().err)
    assert f"{root}-array_record" in error, "TFDS reuses the version that is there"
    assert f"change:   --config.data.name=pets --config.data.dir={root}-array_record" in error
    (place / "dataset_info.json").write_text("{")
    assert convert(place) == 1
    assert "is damaged, or half a file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main(["convert"])
    with pytest.raises(SystemExit):
        tool.main(["folder", "--name=x"])


def test_a_disk_that_is_too_small_for_a_conversion(place, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert convert(place, "--data-dir", tmp_path / "out") == 1
    assert "The disk is too small: 0.1 MB are needed" in capsys.readouterr().err


def test_array_record_that_is_not_whole_does_not_keep_tfrecord_from_being_converted(root, place, tmp_path):
    """As an interrupted conversion in place leaves it; the command is the one that a run advises."""
    change_info(place, alternativeFileFormats=["array_record"])
    with pytest.raises(UserError, match="cannot be read") as error:
        sources.open_dataset("pets", str(root))
    (command,) = [line for line in str(error.value).splitlines() if line.startswith("  convert:")]
    assert tool.main(shlex.split(command)[4:]) == 0
    dataset = sources.open_dataset("pets", str(root.with_name("tfds-array_record")))
    assert [record["image"] for record in dataset.train] == [picture(number) for number in range(20)]


def test_an_info_without_a_name_is_named(root, place, capsys):
    """By a run, too, which would else advise a command that ends so."""
    info = json.loads((place / "dataset_info.json").read_text())
    (place / "dataset_info.json").write_text(json.dumps({key: info[key] for key in info if key != "name"}))
    assert convert(place) == 1
    assert "does not tell the name" in capsys.readouterr().err
    with pytest.raises(UserError, match="does not tell the name and the version of the data set\\.\n  change:   copy"):
        sources.open_dataset("pets", str(root))


def test_nothing_is_written_into_another_data_set(place):
    before = contents(place)
    for inside in (place, place.parent):
        with pytest.raises(UserError, match="a data set's own folder"):
            sources.open_dataset("digits", str(inside))
    assert contents(place) == before
    assert sorted(path.name for path in place.parent.iterdir()) == ["1.0.0"]
