"""The range of values in which an encoder sees images of 16 bits goes with it, from `prepare` to the exported card."""

import contextlib
import json
import shutil

import cv2
import jax
import numpy as np
import pytest

import main
from configs import base_evaluation
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.data import crops, deep, sources
from repre_jax.data.views import VALUE_RANGE
from repre_jax.pretrained import backbone
from repre_jax.probing import evaluations
from repre_jax.running import lifecycle
from repre_jax.running.recorder import Recorder
from repre_jax.running.signals import StopRequest
from repre_jax.tasks import pretrain
from repre_jax.tasks.figures.subject import Numbered
from repre_jax.tools import export, prepare
from tests.helpers.runs import TINY

RNG = np.random.default_rng(0)
MEASURED = ((0.0, 4095.0),)


def fill(root, bits, count=8):
    """Images of 16 x 16 whose values have so many bits, in two classes, and their values by file."""
    values = {}
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = RNG.integers(0, 1 << bits, (16, 16, 3), dtype=np.uint16)
                file = root / split / name / f"{number}.png"
                cv2.imwrite(str(file), image[..., ::-1])
                values[str(file)] = image
    return values


def prepared(root, origin, name, *more):
    arguments = ["folder", "--from", origin, "--name", name, "--data-dir", root, "--quiet", *more]
    assert prepare.main([str(argument) for argument in arguments]) == 0


def command(tmp_path, name, workdir):
    return [*TINY, f"--config.data.name={name}", f"--config.data.dir={tmp_path}", f"--workdir={workdir}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of the data sets, workdir of a run on 'scans', whose 12 bits `prepare` measured, values of its files).

    Its checkpoint is written as a run writes it, but of parameters that are all zeros: nothing is trained.
    """
    tmp_path = tmp_path_factory.mktemp("scans")
    values = fill(tmp_path / "images", bits=12)
    prepared(tmp_path, tmp_path / "images", "scans")
    config, workdir = main.parse(command(tmp_path, "scans", tmp_path / "run"))
    with lifecycle.begun(config, workdir) as session:
        training = pretrain._training(config, workdir, session.past)
        session.record(training.dataset, step=0)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(training.fresh))
        with StopRequest(training.mesh) as stop, contextlib.closing(Recorder(session, training, stop, 0)) as recorder:
            recorder.save(2, zeros)
    return tmp_path, workdir, values


def evaluation(source, tmp_path, **keys):
    """(The backbone, the data set opened for it, the config that they completed.)"""
    config = base_evaluation.get_config()
    config.update_from_flattened_dict({"init_from": str(source)} | {f"data.{key}": keys[key] for key in keys})
    found = backbone.find(config, tmp_path / "evaluation")
    return found, evaluations.open_data(config, found), config


def assert_seen(dataset, values, levels):
    """Each record of train is decoded to these levels of its values."""
    for number in range(len(dataset.train)):
        record = dataset.train[number]
        name = record["file_name"].decode() if isinstance(record["file_name"], bytes) else record["file_name"]
        (stored,) = (image for file, image in values.items() if file.endswith(f"train/{name}"))
        np.testing.assert_array_equal(crops.decode(record["image"], 3, record.get(VALUE_RANGE)), levels(stored))


def test_what_prepare_measured_is_in_the_checkpoint(run):
    _, workdir, _ = run
    with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        record = checkpoints.record(2)
    assert record["pixels"]["value_range"] == record["data"]["value_range"] == [[0.0, 4095.0]]
    known = json.loads((workdir / "data.json").read_text())
    assert (known["identity"]["value_range"], record["config"]["data"]["value_range"]) == ([[0.0, 4095.0]], None)


def test_other_data_are_seen_by_the_encoders_range(run, tmp_path, capsys):
    """The same pictures as a folder, which nobody measured, and ones that were measured otherwise."""
    root, workdir, values = run
    found, dataset, config = evaluation(workdir, tmp_path)
    assert found.value_range == config.data.value_range == dataset.value_range == MEASURED
    assert_seen(dataset, values, lambda stored: stored >> 4)
    capsys.readouterr()
    _, dataset, config = evaluation(workdir, tmp_path, name=f"folder:{root / 'images'}")
    assert config.data.value_range == dataset.value_range == MEASURED
    assert_seen(dataset, values, lambda stored: stored >> 4)
    assert "16 bits use a small part" not in capsys.readouterr().out
    dark = fill(tmp_path / "dark", bits=10)
    prepared(tmp_path, tmp_path / "dark", "dark")
    capsys.readouterr()
    _, dataset, _ = evaluation(workdir, tmp_path, name="dark", dir=str(tmp_path))
    assert (dataset.value_range, dataset.measured_range) == (MEASURED, ((0.0, 1023.0),))
    assert_seen(dataset, dark, lambda stored: stored >> 4)
    said = capsys.readouterr().out
    assert (
        "Note: dark has values 0 to 1,023; they are seen by those that the encoder was trained by, 0 to 4,095" in said
    )
    assert "--config.data.value_range='(0, 1023)'" in said


def test_data_that_were_stored_with_8_bits_cannot_follow(run, tmp_path, capsys):
    """Arrays become 8 bits when they are prepared, by their own range."""
    _, workdir, _ = run
    (tmp_path / "arrays").mkdir()
    for number in range(3):
        np.save(tmp_path / "arrays" / f"{number}.npy", np.full((16, 16, 3), 341 * (number + 1), np.uint16))
    prepared(tmp_path, tmp_path / "arrays", "flat")
    capsys.readouterr()
    _, dataset, _ = evaluation(workdir, tmp_path, name="flat", dir=str(tmp_path))
    records = [dataset.train[number] for number in range(3)]
    seen = {int(crops.decode(record["image"], 3, record[VALUE_RANGE])[0, 0, 0]) for record in records}
    assert seen == {341 >> 2, 682 >> 2, 1023 >> 2}
    said = capsys.readouterr().out
    assert (
        "Warning: flat was stored with 8 bits, by values 0 to 1,023, and the encoder was trained by 0 to 4,095" in said
    )
    assert "prepare it again, with --value-range 0 4095" in said


def test_a_range_that_is_set_wins_and_the_difference_is_said(run, tmp_path, capsys):
    _, workdir, values = run
    _, dataset, config = evaluation(workdir, tmp_path, value_range=(0, 1023))
    assert (config.data.value_range, dataset.value_range) == ((0, 1023), ((0, 1023),))
    assert_seen(dataset, values, lambda stored: np.minimum(stored >> 2, 255))
    said = capsys.readouterr().out
    assert "Warning: images of more than 8 bits are seen by values 0 to 1,023, and the encoder was trained by 0" in said
    evaluation(workdir, tmp_path, value_range=((0, 4095),) * 3)
    assert capsys.readouterr().out == "", "one for all channels is the same for each"


def test_the_card_has_it_and_an_evaluation_of_the_file_takes_it(run, tmp_path, capsys):
    root, workdir, values = run
    assert export.main([str(workdir), "--format=npz", f"--output={tmp_path / 'x.npz'}"]) == 0
    assert "of 16 bits values 0 to 4,095" in capsys.readouterr().out
    card = json.loads((tmp_path / "x.npz.json").read_text())
    assert card["preprocessing"]["value_range"] == [[0.0, 4095.0]]
    assert card["preprocessing"]["pixels"].startswith("value_range of more than 8 bits becomes 0..1, then")
    found, dataset, _ = evaluation(tmp_path / "x.npz", tmp_path, name=f"folder:{root / 'images'}")
    assert found.value_range == dataset.value_range == MEASURED
    assert_seen(dataset, values, lambda stored: stored >> 4)


def test_a_run_does_not_go_on_with_another_range(run, tmp_path, capsys):
    """The same pictures, prepared again: nothing else of them differs."""
    root, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "again")
    prepared(tmp_path, root / "images", "scans", "--value-range", 0, 1023)
    capsys.readouterr()
    assert main.main(command(tmp_path, "scans", tmp_path / "again")) == 1
    assert "data.value_range: [[0.0, 4095.0]] -> [[0.0, 1023.0]]" in capsys.readouterr().err


def test_records_that_are_numbered_for_a_figure_keep_it(run):
    root, _, _ = run
    dataset = sources.open_dataset("scans", str(root))
    record = Numbered(dataset.train, np.array([5, 3]))[1]
    assert (record[VALUE_RANGE], record["label"]) == (MEASURED, 3)
    whole = dataset.train[3]
    np.testing.assert_array_equal(
        crops.decode(record["image"], 3, record[VALUE_RANGE]), crops.decode(whole["image"], 3, whole[VALUE_RANGE])
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (((0, 9),), ((0, 9), (0, 9)), True),
        (((0, 9),), ((0, 9), (0, 8)), False),
        (None, ((0, 9),), False),
        (None, None, True),
    ],
)
def test_ranges_that_are_alike(one, other, same):
    assert deep.alike(one, other) is deep.alike(other, one) is same
    assert deep.as_key(((0.0, 4095.0),)) == "(0, 4095)"
    assert deep.as_key(((-1024.0, 3071.0), (0.5, 1.0))) == "((-1024, 3071), (0.5, 1))"
