"""What a measurement of a trained segmentation takes from its run, and what its command may change."""

from pathlib import Path

import pytest

from repre_jax.core.errors import UserError
from repre_jax.probing import measured_again
from repre_jax.running import resume
from repre_jax.system import command_line

RUN = Path("/runs/trained")


def config_of(*arguments, variants=""):
    """(Config, what was asked for) of a command."""
    argv = ["main.py", f"--config=configs/segment.py{variants and ':'}{variants}", *arguments]
    config, _ = command_line.parse(argv)
    return config, measured_again.asked(config)


@pytest.fixture
def trained():
    """The config of a run on a folder, which has completed what nobody had set."""
    config, _ = config_of(
        *("--config.data.name=folder:/photos", "--config.data.num_classes=3", "--config.data.first_value=1"),
        *("--config.data.train_split=train[:90%]", "--config.data.test_split=train[90%:]", "--config.optim.lr=0.5"),
        *("--config.data.image_size=(32, 48)", "--config.segment.test_stride=(16, 24)", "--config.data.channels=3"),
        *("--config.segment.test_size=()", "--config.segment.test_flip=True", "--config.dtype=bfloat16"),
        *("--config.encoder.patch=8", "--config.init_from=/runs/encoder", "--config.network=online"),
        *("--config.data.mean=(0.4, 0.4, 0.4)", "--config.data.dir=/data", "--config.batch_size=4"),
        variants="linear,short",
    )
    return config


def taken(trained, *arguments, variants=""):
    """(Config, departures)."""
    config, asked = config_of("--config.evaluate=/runs/trained", *arguments, variants=variants)
    return config, measured_again.take_over(config, trained, RUN, asked)


def test_what_nobody_sets_is_the_runs(trained):
    config, departures = taken(trained)
    assert departures == []
    for key in ("name", "dir", "train_split", "test_split", "num_classes", "first_value", "image_size", "mean"):
        assert config.data[key] == trained.data[key], key
    assert config.segment == trained.segment
    assert (config.dtype, config.encoder.patch, config.init_from) == ("bfloat16", 8, "/runs/encoder")
    assert (config.batch_size, config.data.workers) == (8, 8), "its own"


def test_what_the_command_sets_is_taken_and_said(trained):
    """Also where it is what the config has anyway."""
    config, departures = taken(
        trained, "--config.data.first_value=0", "--config.segment.test_flip=False", "--config.data.dir=/elsewhere",
        "--config.segment.test_size=(1025, 2049)", "--config.data.mean=(0.5, 0.5, 0.5)", "--config.dtype=float32",
    )  # fmt: skip
    assert departures == [
        "data.first_value 0 instead of 1",
        "data.mean [0.5, 0.5, 0.5] instead of [0.4, 0.4, 0.4]",
        "segment.test_size [1025, 2049] instead of []",
        "segment.test_flip False instead of True",
        "dtype 'float32' instead of 'bfloat16'",
    ]
    assert (config.data.first_value, config.segment.test_flip, config.segment.test_size) == (0, False, (1025, 2049))
    assert (config.data.name, config.data.dir) == ("folder:/photos", "/elsewhere")


def test_another_data_set_has_splits_of_its_own(trained):
    config, departures = taken(trained, "--config.data.name=cityscapes/semantic_segmentation")
    assert departures == ["data.name 'cityscapes/semantic_segmentation' instead of 'folder:/photos'"]
    assert (config.data.train_split, config.data.test_split, config.data.num_classes) == ("train", None, None)
    assert (config.data.first_value, config.data.dir) == (1, "/data")
    config, departures = taken(trained, "--config.data.name=folder:/others", "--config.data.test_split=val")
    assert (config.data.test_split, departures[1]) == ("val", "data.test_split 'val' instead of 'train[90%:]'")


def test_what_a_variant_sets_is_taken_too(trained, capsys):
    scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    config, departures = taken(trained, variants="multiscale")
    assert departures == [f"segment.test_scales {list(scales)} instead of [1.0]"]
    assert (config.segment.test_scales, config.segment.head, config.data.name) == (scales, "linear", "folder:/photos")
    assert capsys.readouterr().out == ""
    config, departures = taken(trained, variants="mla,scenes")
    assert departures[:2] == [
        "data.name 'scenes/dense' instead of 'folder:/photos'",
        "data.test_split 'test' instead of 'train[90%:]'",
    ]
    assert (config.segment.head, config.data.image_size) == ("linear", (32, 48))
    said = capsys.readouterr().out
    assert "data.image_size is [32, 48], not [48, 48]" in said
    assert "segment.head is linear, not mla" in said


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        (["--config.data.image_size=(64, 64)"], ["data.image_size: [32, 48], given [64, 64]"]),
        (["--config.data.image_size=(768, 768)"], ["data.image_size: [32, 48], given [768, 768]"]),
        (["--config.init_from=/runs/other"], ["init_from: '/runs/encoder', given '/runs/other'"]),
        (["--config.data.channels=4"], ["data.channels: 3, given 4"]),
        (
            ["--config.segment.ratios=(1.0, 1.0)", "--config.network=target", "--config.optim.lr=0.1"],
            [
                "network: 'online', given 'target'",
                "optim.lr: 0.5, given 0.1",
                "segment.ratios: [0.5, 2.0], given [1.0, 1.0]",
            ],
        ),
    ],
)
def test_what_a_measurement_cannot_change_is_refused(trained, arguments, faults):
    with pytest.raises(UserError) as caught:
        taken(trained, *arguments)
    keys = [fault.split(":")[0] for fault in faults]
    assert f"{RUN} was trained:\n" + "".join(f"  {fault}\n" for fault in faults) in str(caught.value)
    assert str(caught.value).endswith(f"  change:   leave out {', '.join(f'--config.{key}' for key in keys)}")


def test_a_run_of_an_earlier_version_has_no_key_attention():
    config, _ = config_of(variants="tiny")
    now = resume.plain(config)
    before = now | {"encoder": {key: value for key, value in now["encoder"].items() if key != "attention"}}
    assert (now["encoder"]["attention"], resume.check_unchanged(before, now, "config")) == ("auto", [])


def test_the_command_of_the_training_can_be_repeated(trained):
    """With config.evaluate behind it: nothing of it is another value than the run's."""
    config, departures = taken(
        trained, "--config.optim.lr=0.5", "--config.encoder.patch=8", "--config.data.image_size=(32, 48)",
        "--config.init_from=/runs/encoder", "--config.total_steps=40_000", "--config.step=7", variants="linear,short",
    )  # fmt: skip
    assert (departures, config.step, config.total_steps) == ([], 7, 40_000)
