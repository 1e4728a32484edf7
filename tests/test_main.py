"""What a user can get wrong: one clear message, status 1, no traceback, before anything trains."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import main
from repre_jax.builders import augmentation, methods
from repre_jax.core.errors import UserError
from repre_jax.data import sources
from repre_jax.running import loop

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "--config=configs/moco_vit_s.py"
TINY = CONFIG + ":tiny"
FLAGS = "expected: --config, --workdir, --dry-run, --quiet, --completion or --config.KEY=VALUE"

MISTAKES = {
    "no config": ([], ["--config is missing", "expected: a config file", "configs/moco_vit_s.py"]),
    "no such config": (["--config=configs/moco_vit_x.py"], ["configs/moco_vit_x.py does not exist", "moco_vit_s.py"]),
    "mistyped config": (["--config=configs/moco_vits.py"], ["moco_vits.py does not exist. Did you mean 'moco_vit_s'?"]),
    "no such config, with a key": (["--config=none.py", "--config.seed=1"], ["none.py does not exist"]),
    "unknown variant": (
        [CONFIG + ":digit"],
        ["Unknown variant 'digit'. Did you mean 'digits'?", "digits, scenes, scenes_dense, baseline, light"],
    ),
    "mistyped key": ([TINY, "--config.batch_sise=8"], ["batch_sise", "Did you mean", "batch_size"]),
    "mistyped nested key": (
        [TINY, "--config.optim.rate=1"],
        ["Unknown key 'rate' in --config.optim.rate", "weight_decay"],
    ),
    "mistyped flag": ([TINY, "--workdri=x"], ["Unknown flag --workdri. Did you mean --workdir?", FLAGS]),
    "flag that takes no value": ([TINY, "--dry-run=true"], ["--dry-run takes no value", FLAGS]),
    "mistyped flag without a value": ([TINY, "--quite"], ["Unknown flag --quite. Did you mean --quiet?", FLAGS]),
    "flag that nothing resembles": ([TINY, "--gpus=8"], ["Unknown flag --gpus.\n", FLAGS]),
    "key without its config": ([TINY, "--optim.lr=1"], ["Unknown flag --optim.lr.\n", FLAGS]),
    "text for a number": ([TINY, "--config.optim.lr=fast"], ["config.optim.lr", "fast"]),
    "fraction for a count": ([TINY, "--config.batch_size=1.5"], ["config.batch_size", "1.5"]),
    "one number for a group": ([TINY, "--config.data=3"], ["config.data", "3"]),
    "stray argument": ([TINY, "digits"], ["Unexpected argument 'digits'", FLAGS]),
    "key before config": (["--config.seed=1", TINY], ["config.seed", "before"]),
    "patch does not divide": (
        [TINY, "--config.data.image_size=(30, 32)"],
        ["30 x 32 pixels cannot be cut into patches of 8 x 8", "(32, 32)"],
    ),
    "image size of three": ([TINY, "--config.data.image_size=(8,8,8)"], ["data.image_size is (8, 8, 8)", "expected"]),
    "too many hierarchies": (
        [TINY, "--config.encoder.pyramid_levels=5"],
        [
            "pyramid_levels 5 does not fit an encoder of 2 blocks",
            "expected: 1 to 2",
            "--config.encoder.pyramid_levels=2",
        ],
    ),
    "unknown framework": ([TINY, "--config.framework.name=mocov3"], ["Unknown framework 'mocov3'", "moco_v3"]),
    "keys of another framework": (
        [TINY, "--config.framework.name=byol"],
        [
            "framework byol does not have the settings",
            "\n  unknown:  framework.temperature\n  given:    hidden, momentum, ",
            "expected: hidden, out;",
        ],
    ),
    "framework whose target needs a momentum": (
        ["--config=configs/simclr_vit_s.py:tiny", "--config.framework.name=moco_v3"],
        [
            "framework moco_v3 does not have the settings of this config.\n"
            "  missing:  framework.momentum, framework.momentum_end\n  given: ",
            "momentum and momentum_end if its target is a moving",
        ],
    ),
    "framework without a target": (
        [TINY, "--config.framework.name=simclr"],
        [
            "framework simclr does not have the settings",
            "\n  unknown:  framework.momentum, framework.momentum_end\n  given:    hidden, momentum, ",
        ],
    ),
    "unknown optimiser": ([TINY, "--config.optim.name=adam"], ["Unknown optimiser 'adam'", "adamw, lars, sgd"]),
    "unknown schedule": ([TINY, "--config.optim.schedule=cosine"], ["optim.schedule 'cosine'", "dino, moby, moco_v3"]),
    "warm-up as long as the run": ([TINY, "--config.optim.warmup_epochs=300"], ["below epochs (300), got 300"]),
    "local views for MoCo v3": (
        [TINY, "--config.augment.local_views=2"],
        ["framework moco_v3 takes no local views, got 2", "change:   --config.augment.local_views=0"],
    ),
    "number that is none": ([CONFIG + ":tiny,epochs=many"], ["Variant epochs=many", "as in epochs=600"]),
    "negative epochs": ([CONFIG + ":tiny,epochs=-1"], ["epochs is -1.0", "expected:"]),
    "queue that the batch does not divide": (
        ["--config=configs/moby_vit_s.py:tiny", "--config.framework.queue=40"],
        ["framework.queue 40 is not a multiple of batch_size 16", "--config.framework.queue=32"],
    ),
    "one teacher temperature": (
        ["--config=configs/dino_vit_s.py:tiny", "--config.framework.teacher_temperature=(0.04,)"],
        ["framework.teacher_temperature is (0.04,)", "two numbers above 0"],
    ),
    "blur without local views'": (
        ["--config=configs/dino_vit_s.py:tiny", "--config.augment.blur_probability=(1.0, 0.1)"],
        ["augment.blur_probability", "3 numbers from 0 to 1"],
    ),
    "unknown dtype": ([TINY, "--config.dtype=fp16"], ["Unknown dtype 'fp16'", "float32 or bfloat16"]),
    "unknown task": ([TINY, "--config.task=train"], ["Unknown task 'train'", "pretrain"]),
    "no fusion layer": ([TINY, "--config.repre.fusion_layers=0"], ["fusion_layers must be a whole number"]),
    "temperature 0": ([TINY, "--config.framework.temperature=0"], ["framework.temperature is 0.0", "change:"]),
    "probability 2": (
        [TINY, "--config.augment.flip_probability=2"],
        ["augment.flip_probability is 2.0", "from 0 to 1"],
    ),
    "jitter of three": ([TINY, "--config.augment.jitter=(1, 1, 1)"], ["augment.jitter", "4 numbers from 0 to 1"]),
    "crop of nothing": ([TINY, "--config.augment.crop_scale=(0.0, 1.0)"], ["augment.crop_scale", "above 0"]),
    "crop upside down": ([TINY, "--config.augment.crop_scale=(1.0, 0.5)"], ["augment.crop_scale", "first"]),
    "no steps": ([TINY, "--config.total_steps=0"], ["total_steps must be at least 1"]),
    "log never": ([TINY, "--config.log_every=0"], ["log_every is 0", "at least 1"]),
    "k of nothing": ([TINY, "--config.knn.k=0"], ["knn.k is 0", "at least 1"]),
    "mean of two": ([TINY, "--config.data.mean=(0.5, 0.5)"], ["data.mean", "3 numbers"]),
    "std of zero": ([TINY, "--config.data.std=(0.0, 0.5, 0.5)"], ["data.std", "3 numbers"]),
    "rate that is no number": ([TINY, "--config.optim.lr=nan"], ["optim.lr is nan", "expected: a number from"]),
    "crop beyond the image": ([TINY, "--config.data.test_crop=2"], ["data.test_crop is 2.0", "to 1"]),
    "rules that are none": ([TINY, "--config.optim.rules=3"], ["optim.rules: 3 is no rule", "expected: (path"]),
    "rule without a number": (
        [TINY, "--config.optim.rules=(('a','lr_scale','x'),)"],
        ["is no rule", "expected: (path"],
    ),
    "rule for nothing": ([TINY, "--config.optim.rules=(('encodr','lr_scale',0.0),)"], ["no parameter's path matches"]),
    "batch of one": ([TINY, "--config.batch_size=1"], ["batch_size is 1", "at least 2"]),
    "batch that is no whole number": ([CONFIG + ":tiny,batch_size=1e3"], ["batch_size=1e3", "a whole number"]),
    "epochs twice": ([CONFIG + ":tiny,epochs=1,epochs=700"], ["epochs=1, epochs=700: one name twice"]),
    "clipping without a norm": ([TINY, "--config.optim.clip_each=True"], ["clip_each needs a norm", "clip_norm=3.0"]),
    "rule below zero": ([TINY, "--config.optim.rules=(('cls','frozen_epochs',-1.0),)"], ["at least 0"]),
    "no data set": (
        [TINY, "--config.data.name="],
        ["data.name is empty", "scenes/objects", "  change: "],
    ),
    "no such version": ([TINY, "--config.data.name=digits:9.9.9"], ["not there in version 9.9.9", "1.0.0"]),
    "unknown split": ([TINY, "--config.data.test_split=val"], ["no split 'val'", "test, train"]),
}


@pytest.fixture(scope="module", autouse=True)
def digits():
    """On the disk before anyone asks for another version of them."""
    sources.open_dataset("digits")


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_message(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(loop, "fit", lambda *a, **k: pytest.fail("trained"))
    workdir = [f"--workdir={tmp_path / 'run'}"]
    assert main.main(["main.py", *arguments[:1], *workdir, *arguments[1:]]) == 1
    output = capsys.readouterr()
    assert "Traceback" not in output.err + output.out
    assert 0 < len(output.err.strip().splitlines()) <= 8
    for word in words:
        assert word in output.err
    assert not (tmp_path / "run" / "config.json").exists(), "nothing is left of a run that never began"


def test_devices_that_do_not_divide_the_batch(two_devices, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    for size, proposal in ((5, 4), (3, 4)):
        arguments = ["main.py", TINY, f"--workdir={tmp_path}", f"--config.batch_size={size}"]
        assert main.main(arguments) == 1
        error = capsys.readouterr().err
        assert f"batch_size {size} cannot be split evenly over 2 devices" in error
        assert f"--config.batch_size={proposal}" in error


def test_a_python_without_the_packages_is_told_how_to_get_them():
    """-S leaves site-packages out, which a Python outside the virtual environment does not have."""
    command = [sys.executable, "-S", "main.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The package jax is not installed for {sys.executable}.\n  change:   activate")


def test_imagenet_that_is_not_there(tmp_path):
    """The paper's command on a machine without ImageNet, as a user runs it."""
    command = [sys.executable, "main.py", "--config", "configs/moco_vit_s.py", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*command, f"--config.data.dir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    for word in (
        "imagenet2012 was not found",
        str(tmp_path / "imagenet2012"),
        "fetch:",
        "prepare:",
        "moco_vit_s.py:digits",
    ):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_workdir_that_cannot_be_made(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "file").write_text("")
    assert main.main(["main.py", TINY, f"--workdir={tmp_path / 'file' / 'run'}"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_config_file_with_a_fault_names_file_and_line(tmp_path, capsys):
    faulty = tmp_path / "faulty.py"
    faulty.write_text("def get_config(variants=''):\n    return undefined_name\n")
    assert main.main(["main.py", f"--config={faulty}"]) == 1
    error = capsys.readouterr().err
    assert "faulty.py" in error
    assert "undefined_name" in error


def test_variants_combine_and_overrides_come_last():
    config, workdir = main.parse(["main.py", CONFIG + ":digits,baseline", "--config.total_steps=7"])
    assert (config.data.name, config.repre.enabled, config.total_steps) == ("digits", False, 7)
    assert workdir.parts[-2:] == ("runs", "moco_vit_s-digits-baseline")


def test_the_papers_config_is_the_papers():
    config, _ = main.parse(["main.py", CONFIG])
    assert (config.batch_size, config.epochs, config.optim.lr, config.optim.weight_decay) == (4096, 300, 1.5e-4, 0.1)
    encoder = methods.encoder_of(config)
    assert (encoder.width, encoder.depth, encoder.heads, encoder.patch) == (384, 12, 12, 16)
    assert (encoder.pyramid_levels, encoder.variant, encoder.drop_path) == (4, "moco_v3", 0.0)
    assert (config.framework.hidden, config.framework.out, config.framework.temperature) == (4096, 256, 0.2)
    assert (config.framework.momentum, config.optim.warmup_epochs, config.data.image_size) == (0.99, 40, (224, 224))
    assert (config.augment.crop_scale, config.augment.jitter) == ((0.08, 1.0), (0.4, 0.4, 0.2, 0.1))
    both = augmentation.build_augmentation(config)
    assert [view.blur_probability for view in both] == [1.0, 0.1]
    assert [view.solarize_probability for view in both] == [0.0, 0.2]
    for view in both:
        assert (view.jitter_probability, view.grey_probability, view.flip_probability) == (0.8, 0.2, 0.5)
        assert (view.jitter, view.blur_sigma) == ((0.4, 0.4, 0.2, 0.1), (0.1, 2.0))
    assert config.repre.enabled


def test_the_pyramid_and_the_class_token_from_the_command_line():
    keys = ["--config.encoder.pyramid_blocks=(1,2)", "--config.encoder.pyramid_levels=2"]
    config, _ = main.parse(["main.py", TINY, *keys, "--config.encoder.class_token=False"])
    encoder = methods.encoder_of(config)
    assert (encoder.pyramid_blocks, encoder.class_token) == ((1, 2), False)
    plain, _ = main.parse(["main.py", TINY])
    assert methods.encoder_of(plain).class_token
    old = {"name": "vit_s", "variant": "deit", "patch": 8, "width": None, "depth": (4,), "heads": (4,), "window": None}
    for there in ({}, {"class_token": None}, {"class_token": True}):
        assert methods.architecture(old | there) == old
    config.encoder.name = "swin_t"
    with pytest.raises(UserError, match="swin_t has no setting"):
        methods.encoder_of(config)


def test_help_names_the_configs(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main.main(["main.py", "--help"]) == 0
    assert "configs/moco_vit_s.py" in capsys.readouterr().out


def test_the_device_count_is_what_the_tests_think(two_devices):
    assert jax.device_count() == 2
