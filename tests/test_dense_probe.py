"""`configs/dense_probe.py` as a command: what it leaves, that it repeats, wrong use."""

import json

import pytest

import main
from repre_jax.report import results
from repre_jax.report.run import read
from tests.helpers import labelled_folder
from tests.helpers.evaluating import command

CONFIG = "configs/dense_probe.py"
MEASURES = [
    *(f"{kind}_{depth}" for kind in ("object_ap", "linear_miou", "detail_r2", "detail_within_r2")
      for depth in ("last", "all")),
    "token_rank", "pooled_rank",
]  # fmt: skip


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Of a small folder of images with label maps."""
    root = tmp_path_factory.mktemp("labelled")
    labelled_folder.write(root)
    data = {"name": f"folder:{root}", "num_classes": 3, "test_split": "validation", "image_size": (40, 56)}
    return [*(f"--config.data.{key}={value}" for key, value in data.items()), "--config.dense_probe.background=(0,)"]


@pytest.fixture(scope="module")
def measured(finished, flags, tmp_path_factory):
    """(Workdir, result); to be looked at, not changed."""
    workdir = tmp_path_factory.mktemp("dense") / "w"
    assert main.main(command(CONFIG, finished[0], workdir, *flags)) == 0
    return workdir, json.loads((workdir / "result.json").read_text())


def test_an_encoder_is_measured_beside_what_it_was_before_training(finished, measured):
    workdir, result = measured
    assert result["origin"] == {
        "init_from": str(finished[0]), "framework": "moco_v3", "branch": "online", "step": 8,
    }  # fmt: skip
    assert (result["train_images"], result["test_images"], result["patch"]) == (6, 3, 8)
    assert result["widths"] == {"last": 32, "all": 64}, "a tiny ViT has two blocks"
    assert all(result[name] is not None and result[f"{name}_untrained"] is not None for name in MEASURES)
    assert all(0 <= result[name] <= 1 for name in MEASURES if not name.endswith("rank"))
    assert result["object_ap_all"] > result["object_ap_constant"], "colours say the class"
    assert result["detail_r2_all"] > 0.5
    figures = {figure.name: figure for figure in results.summary(read(workdir))}
    shown = figures["Average precision of objects, last block"]
    assert shown.value == f"{result['object_ap_last']:.1%}"
    assert f"untrained encoder {result['object_ap_last_untrained']:.1%}" in shown.beside
    assert f"the same answer everywhere {result['object_ap_constant']:.1%}" in shown.beside


def test_the_untrained_encoder_alone_is_what_stood_beside(finished, flags, measured, tmp_path, capsys):
    argv = command(CONFIG, finished[0], tmp_path, *flags, "--config.network=untrained")
    assert main.main(argv) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert {name: result[name] for name in MEASURES} == {name: measured[1][f"{name}_untrained"] for name in MEASURES}
    assert "object_ap_last_untrained" not in result
    capsys.readouterr()
    assert main.main(argv) == 0
    output = capsys.readouterr().out
    assert "This evaluation is finished. Its summary:" in output
    assert f"object AP         {result['object_ap_last']:.1%}  last block; the same answer everywhere" in output


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("dense_probe.background=(3,)", "dense_probe.background is (3,), and folder:"),
        ("dense_probe.held_out=0.0", "dense_probe.held_out is 0.0.\n  expected: a number from 0.01 to 0.9"),
        ("data.image_size=(42, 56)", "cannot be cut into patches of 8 x 8"),
        ("encoder.pyramid_blocks=(1,)", "encoder.pyramid_blocks ends with 1, and the encoder has 2 blocks"),
        ("dense_probe.train_images=2", "dense_probe.train_images is 2, and held_out 0.2"),
    ],
)
def test_wrong_use_is_one_message(finished, flags, tmp_path, capsys, argument, message):
    assert main.main(command(CONFIG, finished[0], tmp_path / "w", *flags, f"--config.{argument}")) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "w").exists()
