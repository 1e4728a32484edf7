"""What evaluations that train refuse, and how their settings reach the step."""

import dataclasses
import io
import shutil

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

import main
from configs import knn
from repre_jax.data.mixing import Mixing
from repre_jax.pretrained import backbone
from repre_jax.probing import evaluations, frozen
from repre_jax.tasks import finetune, linear
from tests.helpers.evaluating import FINETUNE, LINEAR, begun, command, evaluate, retrain


class HalfLabelled(tfds.core.GeneratorBasedBuilder):
    """As ImageNet's 'test' is, its split 'extra' has no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(16, 16, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(1),
            "extra": self._generate_examples(-1),
            "test": self._generate_examples(0),
        }

    def _generate_examples(self, label):
        for number in range(16):
            image = np.full((16, 16, 3), number, np.uint8)
            yield number, {"image": io.BytesIO(cv2.imencode(".png", image)[1].tobytes()), "label": label}


@pytest.mark.parametrize(("config", "variants"), [(LINEAR, "tiny"), (LINEAR, "cached,tiny"), (FINETUNE, "tiny")])
def test_records_without_a_label_are_not_trained_on(finished, tmp_path, capsys, config, variants):
    """The first one has a label, so that a look before the start does not find them."""
    HalfLabelled(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    arguments = ["--config.data.name=half_labelled", f"--config.data.dir={tmp_path}", "--config.data.test_split=test",
                 "--config.data.train_split=train+extra"]  # fmt: skip
    assert main.main(command(config, finished[0], tmp_path / "w", *arguments, variants=variants)) == 1
    assert "have no label" in capsys.readouterr().err
    arguments[-1] = "--config.data.train_split=extra"
    assert main.main(command(config, finished[0], tmp_path / "v", *arguments, variants=variants)) == 1
    assert "half_labelled lacks labels in its train split" in capsys.readouterr().err


def built(task, config, source, tmp_path, *arguments, variants=""):
    """(what is trained, the method whose step that is) of the whole, not the tiny, config."""
    asked, workdir = main.parse(command(config, source, tmp_path / "none", *arguments, variants=variants))
    found = backbone.find(asked, workdir)
    mesh = task.check(asked, found)
    job = finetune.build(asked, found, mesh) if task is finetune else linear.build(asked, found, workdir, mesh)
    return job, job.train_step.__self__


def test_a_recipe_reaches_the_step(finished, tmp_path):
    _, method = built(finetune, FINETUNE, finished[0], tmp_path)
    assert (method.encoder.drop_path, method.erase_probability) == (0.1, 0.25)
    assert method.mixing == Mixing(0.8, 1.0, smoothing=0.1)
    assert ("^encoder/block_1(/|$)", "lr_scale", 0.65**2) in method.rules


def test_scratch_begins_elsewhere_with_each_seed(finished, tmp_path):
    first, second = (
        built(finetune, FINETUNE, finished[0], tmp_path, f"--config.seed={seed}", variants="scratch,tiny")[0].fresh()
        for seed in (0, 1)
    )
    kernels = [state.params["encoder"]["block_1"]["attn"]["qkv"]["kernel"] for state in (first, second)]
    assert not np.allclose(*kernels, atol=1e-3)


@pytest.mark.parametrize(("protocol", "dropped"), [("moby", True), ("mocov3", False)])
def test_a_protocol_reaches_the_step(finished, tmp_path, protocol, dropped):
    _, probe = built(linear, LINEAR, finished[0], tmp_path, "--config.batch_size=64", "--config.linear.held_out=0.1",
                     variants=protocol)  # fmt: skip
    assert probe.drop_paths is dropped
    assert probe.encoder.drop_path == (0.2 if dropped else 0)
    assert probe.label_smoothing == (0.1 if dropped else 0)


def test_a_frozen_encoder_that_has_changed_is_noticed(finished, tmp_path):
    asked, workdir = main.parse(command("configs/knn.py", finished[0], tmp_path / "none"))
    job = frozen.build(asked, backbone.find(asked, workdir))
    frozen.check_frozen([job])
    params = jax.tree.map(lambda x: x, job.params)
    params["norm"]["bias"] = params["norm"]["bias"].at[3].add(1e-7)
    with pytest.raises(RuntimeError, match="has changed"):
        frozen.check_frozen([job, dataclasses.replace(job, params=params)])


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (LINEAR, ["--config.network=target", "--config.step=5"], "has no checkpoint 5"),
        (LINEAR, ["--config.feature=cls9"], "has 2 blocks"),
        (LINEAR, ["--config.linear.factors=(2.0, 3.0)"], "1.0 (the protocol's) among them"),
        (LINEAR, ["--config.linear.factors=(1.0, 1e400)"], "linear.factors is (1.0, inf)"),
        (LINEAR, ["--config.linear.factors=(1.0, 'a')"], "linear.factors is (1.0, 'a')"),
        (LINEAR, ["--config.linear.protocol=mae"], "linear.protocol is 'mae', and the settings are those of 'mocov3'"),
        (LINEAR, ["--config.data.labels=0.01"], "1 of 10 training images, to choose a head for 10 classes"),
        (FINETUNE, ["--config.finetune.recipe=own"], "finetune.recipe is 'own'"),
        (LINEAR, ["--config.encoder.width=64"], "encoder.width is 64"),
        (LINEAR, ["--config.network=both"], "Unknown network 'both'"),
        (FINETUNE, ["--config.finetune.layer_decay=2.0"], "finetune.layer_decay is 2.0"),
        (FINETUNE, ["--config.finetune.randaugment=rand-x"], "rand-x"),
        (FINETUNE, ["--config.encoder.attention=cudnn"], "encoder.attention cudnn: float32, heads 8 wide, on cpu"),
    ],
)
def test_wrong_use_is_one_message(finished, tmp_path, capsys, config, arguments, message):
    assert main.main(command(config, finished[0], tmp_path / "new", *arguments)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_what_heads_were_trained_by_cannot_change(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    begun(run, tmp_path / "w")
    changed = ["--config.linear.factors=(1.0, 5.0)", "--config.may_change=('linear',)"]
    assert main.main(command(LINEAR, run, tmp_path / "w", *changed)) == 1
    error = capsys.readouterr().err
    assert "What 3 steps were trained by cannot change:\n  linear.factors:" in error
    retrain(run)
    assert main.main(command(LINEAR, run, tmp_path / "w")) == 1
    assert "are not those that the 3 steps in this workdir began with" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_counted(finished, tmp_path, capsys):
    for split, count in (("train", 40), ("test", 20)):
        for label in range(2):
            (tmp_path / "images" / split / str(label)).mkdir(parents=True)
            for number in range(label, count, 2):
                file = tmp_path / "images" / split / str(label) / f"{number}.png"
                cv2.imwrite(str(file), np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "images" / "test" / "0" / "4.png").write_bytes(b"none")
    name = [f"--config.data.name=folder:{tmp_path / 'images'}", "--config.data.train_split=train",
            "--config.data.test_split=test", "--config.linear.held_out=0.0"]  # fmt: skip
    for config, arguments in ((LINEAR, name), (FINETUNE, name[:3])):
        folder = tmp_path / config.replace("/", "")
        assert main.main(command(config, finished[0], folder, *arguments)) == 1
        assert "1 of 20 records to evaluate on could not be read" in capsys.readouterr().err
        result = evaluate(config, finished[0], folder, *arguments, "--config.data.max_unreadable=0.05")
        assert result["test_images"] == 19


def test_two_protocols_are_one_too_many(finished, tmp_path, capsys):
    assert main.main(command(LINEAR, finished[0], tmp_path, variants="dino,moby")) == 1
    assert "dino and moby exclude each other" in capsys.readouterr().err


def test_unlabelled_images_cannot_be_classified(finished, tmp_path, capsys):
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    arguments = [f"--config.data.name=folder:{tmp_path}"]
    assert main.main(command(LINEAR, finished[0], tmp_path / "w", *arguments)) == 1
    error = capsys.readouterr().err
    assert "lacks labels that its train and test images have in common and a test split" in error
    assert "configs/knn.py" in error


@pytest.mark.parametrize(
    ("train", "test", "warning"),
    [
        ("train", "test", None),
        ("train[:50%]", "train[50%:]", None),
        ("train+validation", "test[:1]", None),
        ("test", "test", "the test images are the training images, split 'test' of"),
        ("train+test", "test", "test images are among the training images: split 'train+test' holds some of 'test' of"),
        ("train + test", "test[:1]", "split 'train + test' holds some of 'test[:1]' of"),
        ("train+test[:1]", "test", "split 'train+test[:1]' holds some of 'test' of"),
        ("all", "validation", "split 'all' holds some of 'validation' of"),
        ("train", "all", "split 'train' holds some of 'all' of"),
        ("train", "train[:50%]", "split 'train' holds some of 'train[:50%]' of"),
    ],
)
def test_test_images_that_are_trained_on_are_told(train, test, warning, tmp_path, capsys):
    for number, place in enumerate(["train/ant", "train/bee", "val/ant", "test/ant", "test/bee"]):
        (tmp_path / place).mkdir(parents=True)
        for name in "12":
            cv2.imwrite(str(tmp_path / place / f"{name}.png"), np.full((8, 8, 3), number, np.uint8))
    config = knn.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "data.name": f"folder:{tmp_path}",
            "data.train_split": train,
            "data.test_split": test,
            "data.image_size": (8, 8),
            "data.channels": 3,
        }
    )
    found = backbone.Backbone(None, {}, (0.5,) * 3, (0.25,) * 3, None, None)
    evaluations.open_data(config, found)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert len(told) == (warning is not None)
    assert all(f"{warning} folder:{tmp_path}." in line for line in told)


@pytest.mark.parametrize("config", ["configs/knn.py", LINEAR, FINETUNE])
def test_a_class_that_train_lacks_is_named(finished, tmp_path, capsys, config):
    for number, place in enumerate(["train/ant", "train/bee", "test/ant", "test/bee", "test/cow"]):
        (tmp_path / "images" / place).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / place / "1.png"), np.full((8, 8, 3), number, np.uint8))
    arguments = [f"--config.data.name=folder:{tmp_path / 'images'}", "--config.data.train_split=train",
                 "--config.data.test_split=test"]  # fmt: skip
    assert main.main(command(config, finished[0], tmp_path / "w", *arguments)) == 1
    error = capsys.readouterr().err
    assert f"Data set folder:{tmp_path / 'images'}: test has classes that train lacks: cow.\n  expected:" in error
    assert "Traceback" not in error
    assert not (tmp_path / "w").exists()
