"""A finished evaluation is reported again, but not for other weights than it is of."""

import shutil

import jax
import pytest

import main
from repre_jax.interop import files, timm
from repre_jax.models import build_encoder
from tests.helpers.evaluating import FINETUNE, LINEAR, command, evaluate, retrain

KNN = "configs/knn.py"
FEW = ("--config.data.train_split=train[:328]", "--config.data.test_split=test[:72]")  # of digits
COMMANDS = [(KNN, "tiny"), (LINEAR, "cached,tiny"), (FINETUNE, "tiny")]
OTHERS = "The weights of init_from are not those that the finished evaluation in this workdir is of.\n  change:   the"
NOT_COMPARED = "Not compared with the weights that init_from has now: "


@pytest.fixture
def run(finished, tmp_path):
    """A run that may be changed."""
    return shutil.copytree(finished[0], tmp_path / "run")


@pytest.mark.parametrize(("config", "variants"), COMMANDS)
def test_a_run_that_was_trained_anew_is_not_given_its_old_figure(run, tmp_path, capsys, config, variants):
    argv = command(config, run, tmp_path / "w", *FEW, variants=variants)
    assert main.main(argv) == 0
    before = (tmp_path / "w" / "result.json").read_text()
    assert main.main(argv) == 0
    output = capsys.readouterr().out
    assert " is finished. Its summary:" in output
    assert NOT_COMPARED not in output
    retrain(run)
    assert main.main(argv) == 1
    output = capsys.readouterr()
    assert output.err.startswith(OTHERS)
    assert "Traceback" not in output.err
    assert "is finished" not in output.out
    assert (tmp_path / "w" / "result.json").read_text() == before


@pytest.mark.parametrize(("config", "variants"), COMMANDS)
def test_what_is_left_of_a_run_that_is_gone_is_its_figure(run, tmp_path, capsys, config, variants):
    result = evaluate(config, run, tmp_path / "w", *FEW, variants=variants)
    assert len(result["weights_sha256"]) == 64
    shutil.rmtree(run / "checkpoints" / "8")
    assert evaluate(config, run, tmp_path / "w", *FEW, variants=variants) == result
    output = capsys.readouterr().out
    assert f"{NOT_COMPARED}The run {run} has no checkpoint 8, or not any more.\n" in output
    shutil.rmtree(run)
    assert evaluate(config, run, tmp_path / "w", *FEW, variants=variants) == result
    assert f"{NOT_COMPARED}{run} is neither a run, with a folder checkpoints" in capsys.readouterr().out
    changed = command(config, run, tmp_path / "w", *FEW, "--config.seed=3", variants=variants)
    assert main.main(changed) == 1
    assert "This workdir holds a run with another config:\n  seed: 0 -> 3" in capsys.readouterr().err
    assert main.main([*changed, "--config.may_change=('seed',)"]) == 1
    assert f"{run} is neither a run" in capsys.readouterr().err
    assert main.main(command(config, tmp_path / "other", tmp_path / "w", variants=variants)) == 1
    assert f"{tmp_path / 'other'} is neither a run" in capsys.readouterr().err


def test_from_scratch_there_is_nothing_to_compare(run, tmp_path, capsys):
    """Its first weights are those of its own seed."""
    result = evaluate(FINETUNE, run, tmp_path / "w", *FEW, variants="scratch,tiny")
    assert len(result["weights_sha256"]) == 64
    retrain(run)
    assert evaluate(FINETUNE, run, tmp_path / "w", *FEW, variants="scratch,tiny") == result
    shutil.rmtree(run)
    assert evaluate(FINETUNE, run, tmp_path / "w", *FEW, variants="scratch,tiny") == result
    assert NOT_COMPARED not in capsys.readouterr().out


@pytest.mark.parametrize(("config", "variants"), [(KNN, "tiny"), (LINEAR, "cached,tiny"), (FINETUNE, "scratch,tiny")])
def test_what_only_the_data_set_says_does_not_change(tmp_path, config, variants):
    """Nobody names the split and the pixels' mean here; a file that is gone names nothing at all."""
    sizes = {"width": 16, "depth": 2, "heads": 2, "patch": 4, "pyramid_levels": 1}
    encoder = build_encoder("vit_ti", image_size=(16, 16), **sizes)
    params = encoder.init(jax.random.key(0), jax.numpy.zeros((1, 16, 16, 3)))["params"]
    file = tmp_path / "encoder.npz"
    files.write(file, timm.dump(params, encoder))
    said = [
        f"--config.encoder.{key}={(value,) if key in ('depth', 'heads') else value}" for key, value in sizes.items()
    ]
    said += ["--config.data.name=digits", "--config.data.image_size=(16, 16)", "--config.encoder.name=vit_ti"]
    source = None if "scratch" in variants else file
    result = evaluate(config, source, tmp_path / "w", *said, variants=variants)
    assert result["train_split"] == "train"
    assert evaluate(config, source, tmp_path / "w", *said, variants=variants) == result
    file.unlink()
    assert evaluate(config, source, tmp_path / "w", *said, variants=variants) == result
