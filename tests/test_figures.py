"""What the figures tool draws of which encoder and images. Data, not pixels."""

import dataclasses
import shutil

import cv2
import jax
import numpy as np
import pytest

from configs import figures as figures_config
from repre_jax.core import sharding
from repre_jax.data import loader
from repre_jax.evaluation import attention
from repre_jax.report.figures import attention as attention_drawing
from repre_jax.report.figures import augmentations as augmentations_drawing
from repre_jax.report.figures import neighbours as neighbours_drawing
from repre_jax.report.figures import pyramid as pyramid_drawing
from repre_jax.report.figures import reconstructions as reconstructions_drawing
from repre_jax.system import command_line
from repre_jax.tasks import pretrain
from repre_jax.tasks.figures import neighbours, subject
from tests.helpers.drawing import FEW, draw
from tests.helpers.runs import ROOT


def captured(monkeypatch, module, name):
    """The arguments of each call of a drawing function, which still draws."""
    calls, function = [], getattr(module, name)

    def call(*arguments, **settings):
        calls.append((arguments, settings))
        return function(*arguments, **settings)

    monkeypatch.setattr(module, name, call)
    return calls


def looked_at(run, *, images=(), **overrides):
    """The subject, as the tool makes it."""
    config = figures_config.get_config()
    config.update_from_flattened_dict({"batch_size": 16, **overrides})
    return subject.Subject(config, run, sharding.make_mesh(16), images)


def test_reconstructions_are_the_online_encoders(drawn_runs, tmp_path, monkeypatch):
    """As the method itself computes them, on the same images, whatever the default is (DINO's target)."""
    root, states = drawn_runs
    drawn = captured(monkeypatch, reconstructions_drawing, "draw")
    assert draw("reconstructions", root / "multi", *FEW, f"--out={tmp_path / 'r.png'}") == 0
    ((views, rebuilt), settings) = drawn[0]
    assert settings["title"] == "Reconstructions from all pyramid levels\nmulti: dino, online, step 3"
    shown = looked_at(root / "multi", **{"figures.records": 2}).shown
    np.testing.assert_array_equal(views, shown.images / np.float32(255))
    job = pretrain.build(command_line.parse(["main.py", "--config=configs/dino_vit_s.py:tiny"])[0])
    params = states["multi"].params

    @jax.jit
    def expected(images):
        output = job.step.method.encode(params["encoder"], job.monitor._normalized(images))
        return job.step.method.reconstruction.reconstruct(params, output.pyramid)

    np.testing.assert_allclose(rebuilt, expected(shown.images), rtol=1e-4, atol=1e-4)


def test_several_runs_stand_side_by_side_on_the_same_images(drawn_runs, tmp_path, monkeypatch):
    root, _ = drawn_runs
    first = tmp_path / "single"
    shutil.copytree(root / "single", first)
    drawn = captured(monkeypatch, attention_drawing, "compare")
    assert draw("attention", first, root / "multi", root / "baseline", "--seed=1", *FEW) == 0
    assert (first / "figures" / "attention-and-multi-and-baseline.pdf").exists()
    ((images, maps, kept, names), _) = drawn[0]
    assert names == [
        "last layer's features\nsingle\ntarget, step 3",
        "multi-level features\nmulti\ntarget, step 3",
        "no decoder\nbaseline\ntarget, step 3",
    ]
    for of_one, patches in zip(maps, kept, strict=True):
        np.testing.assert_array_equal(patches, attention.largest_mass(of_one, 0.6))
        assert 0.6 <= (of_one * patches).sum() / of_one.sum() < 0.8
    alone = looked_at(root / "multi", seed=1, **{"figures.records": 2, "data.test_split": "test[:9]"})
    np.testing.assert_array_equal(images, alone.shown.pixels)
    output = alone.encoder.apply({"params": alone.params}, alone.normalised(alone.shown.images), attention_of=2)
    np.testing.assert_allclose(maps[1], output.attention[:, :, 0, 1:].mean(1).reshape(2, 4, 4), atol=1e-6)
    assert np.ptp(maps[0]) > 2 * np.ptp(maps[1])


def test_titles_of_a_pyramids_columns_stay_whole(drawn_runs, tmp_path, monkeypatch):
    """On lines of their own, none of which is wrapped."""
    root, _ = drawn_runs
    drawn = captured(monkeypatch, pyramid_drawing, "draw")
    for name, second in (("multi", ["block 2", "4 x 4"]), ("swin", ["stage 2", "block 2", "4 x 4"])):
        assert draw("pyramid", root / name, *FEW, f"--out={tmp_path / 'p.png'}") == 0
        (arguments, settings) = drawn.pop()
        axes = pyramid_drawing.draw(*arguments, **settings).axes
        assert axes[2].get_title().splitlines() == second
        assert [axis.get_title() for axis in axes[: 1 + len(arguments[2])]] == ["image", *arguments[2]]


def test_neighbours_are_those_of_knn_and_wrong_ones_are_named(drawn_runs, tmp_path, monkeypatch):
    """By brute force over the bank's features, in which the same digits' order is that of pre-training's own k-NN."""
    root, _ = drawn_runs
    one = looked_at(root / "multi", **{"figures.records": 3, "figures.bank": 40, "figures.k": 5})
    queries, similarity, found = neighbours.nearest(one)
    train = one.dataset.train
    bank = np.linspace(0, len(train) - 1, 40).astype(int)
    images = np.stack([one.view(train[int(number)]["image"]) for number in bank])
    unit = [one.run(lambda p, x: one.encoder.apply({"params": p}, x).pooled, some) for some in (queries.images, images)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit]
    cosines = unit[0] @ unit[1].T
    theirs = np.take_along_axis(cosines, np.searchsorted(bank, found.numbers.reshape(3, 5)), axis=1)
    np.testing.assert_allclose(theirs, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)  # some are equally near
    np.testing.assert_allclose(similarity, theirs, atol=1e-6)
    assert len(set(found.numbers[:5])) == 5
    np.testing.assert_array_equal(found.labels, [train[int(number)]["label"] for number in found.numbers])

    drawn = captured(monkeypatch, neighbours_drawing, "draw")
    flags = ["--records=3", "--config.figures.bank=40", "--config.figures.k=5", "--config.batch_size=16"]
    assert draw("neighbours", root / "multi", *flags, f"--out={tmp_path / 'n.png'}") == 0
    ((_, query_names, _, names, _), settings) = drawn[0]
    assert query_names == [str(label) for label in queries.labels]
    assert names == [[str(label) for label in row] for row in found.labels.reshape(3, 5)]
    figure = neighbours_drawing.draw(*drawn[0][0], **settings)
    for row, axes in enumerate(np.reshape(figure.axes, (3, 6))[:, 1:]):
        for axis, name in zip(axes, names[row], strict=True):
            wrong = name != query_names[row]
            assert ("✗" in axis.get_xlabel()) == wrong
            assert (axis.spines["top"].get_linewidth() > 2) == wrong


def test_a_training_image_is_no_neighbour_of_its_own(drawn_runs):
    root, _ = drawn_runs
    overrides = {"figures.records": 3, "figures.bank": 10**6, "figures.k": 2, "data.train_split": "train[:50]"}
    one = looked_at(root / "multi", **overrides)
    one._dataset = dataclasses.replace(one.dataset, test=None)
    queries, similarity, found = neighbours.nearest(one)
    assert similarity.shape == (3, 2)
    assert not (found.numbers.reshape(3, 2) == queries.numbers[:, None]).any()
    assert (found.numbers < 50).all()


def test_images_by_path_are_cropped_as_test_images(drawn_runs, photos):
    """For one channel and for three, by the house's decoder."""
    root, _ = drawn_runs
    for name, channels in (("multi", 3), ("swin", 1)):
        one = looked_at(root / name, images=photos, **{"data.test_crop": 0.5})
        assert one.shown.images.shape == (2, 32, 32, channels)
        wide = cv2.imread(str(photos[0]), cv2.IMREAD_COLOR_RGB)[6:18, 24:36]
        wide = wide if channels == 3 else cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)[..., None]
        resized = cv2.resize(wide, (32, 32), interpolation=cv2.INTER_LINEAR).reshape(32, 32, channels)
        assert np.abs(one.shown.images[0].astype(int) - resized).max() <= channels
        assert (one.shown.labels == -1).all()
        assert one._dataset is None  # which need not be there


@pytest.mark.parametrize("config", ["dino_vit_s", "moco_vit_s"])
def test_the_contact_sheet_shows_what_the_first_step_sees(config, tmp_path, monkeypatch):
    """The first rows of the run's own first batch, augmented as there."""
    monkeypatch.chdir(ROOT)
    drawn = captured(monkeypatch, augmentations_drawing, "draw")
    flag = f"--config=configs/{config}.py:tiny"
    assert draw("augmentations", flag, "--records=3", "--config.seed=4", f"--out={tmp_path / 'a.png'}") == 0
    ((views, local), _) = drawn[0]
    job = pretrain.build(command_line.parse(["main.py", flag, "--config.seed=4"])[0])
    where = {"seed": 4, "batch_size": 16, "start_step": 0, "workers": 0}
    first = next(loader.train_batches(job.dataset.train, job.train_view, **where))
    pixels = job.step.method.augment(job.step.init_state().rng, 0, first)
    np.testing.assert_allclose(views, pixels.views[:3], atol=1e-5)
    assert (local is None) == (config == "moco_vit_s")
    if config == "dino_vit_s":
        np.testing.assert_allclose(local, pixels.local[:3], atol=1e-5)
