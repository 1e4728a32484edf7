"""The paper's configuration: its step traces at full size, and its data road carries colour JPEGs."""

import json
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

import main
from configs import moco_swin_t, moco_vit_s
from repre_jax.builders import methods
from repre_jax.core.types import Views

ROOT = Path(__file__).resolve().parent.parent


class Imagenet2012(tfds.core.GeneratorBasedBuilder):
    """ImageNet in miniature: JPEGs of several sizes, the splits and features that TFDS gives the real one."""

    VERSION = tfds.core.Version("5.1.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=1000),
                    "file_name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {
            name: self._generate_examples(count) for name, count in (("train", 40), ("validation", 20), ("test", 5))
        }

    def _generate_examples(self, count):
        rng = np.random.default_rng(count)
        for index in range(count):
            height, width = rng.integers(30, 90, 2)
            picture = cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (int(width), int(height)))
            label = -1 if count == 5 else index % 2
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            yield index, {"image": jpeg, "label": label, "file_name": f"{index}.JPEG"}


def test_a_miniature_imagenet_trains(tmp_path, monkeypatch):
    """With worker processes, and 'validation' found as the test split ('test' has no labels)."""
    monkeypatch.chdir(ROOT)
    Imagenet2012(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    arguments = ["--config.data.name=imagenet2012", f"--config.data.dir={tmp_path}", "--config.data.workers=2"]
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny", f"--workdir={tmp_path / 'run'}", *arguments]
    command += ["--config.encoder.depth=(1,)", "--config.encoder.pyramid_levels=1"]  # compiling is what one waits for
    assert main.main([*command, "--config.total_steps=3", "--config.knn.times=1", "--config.checkpoint.every=9"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 3
    assert 0 <= result["knn_top1"] <= 1
    assert result["reconstruction_l1_mean_colour"] > 0.02


@pytest.mark.parametrize("variants", ["baseline", "light,both", "single,transformer1"])
@pytest.mark.parametrize("module", [moco_vit_s, moco_swin_t], ids=lambda module: module.__name__)
def test_variants_of_the_papers_step_trace_at_full_size(module, variants):
    """But with four blocks: test_configs.py traces all of them."""
    config = module.get_config(variants)
    config.encoder.depth = (4,) if module is moco_vit_s else (1, 1, 1, 1)
    method = methods.build_method(config, methods.build_plan(config, records=1_281_167))
    state = jax.eval_shape(lambda: method.init_state(jax.random.PRNGKey(0), (224, 224, 3)))
    batch = Views(
        images=jax.ShapeDtypeStruct((4096, 2, 224, 224, 3), np.uint8), labels=jax.ShapeDtypeStruct((4096,), np.int32)
    )
    new, metrics = jax.eval_shape(method.train_step, state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert ("reconstruction" in metrics) == (variants != "baseline")
    assert set(metrics) >= {"loss", "contrastive", "gradient_norm"}
