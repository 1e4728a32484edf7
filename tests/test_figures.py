"""The figures tool: what is drawn of which encoder and images, where it goes, and what is refused. Data, not pixels."""

import dataclasses
import json
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
from repre_jax.running import resume, workdir
from repre_jax.system import command_line
from repre_jax.tasks import pretrain
from repre_jax.tasks.figures import neighbours, subject
from repre_jax.tools import export, figures
from tests.helpers.runs import ROOT
from tests.helpers.saved import GREY, saved_run

KINDS = ("reconstructions", "attention", "tsne", "neighbours", "pyramid", "augmentations", "data")
FEW = ["--records=2", "--config.figures.per_class=4", "--config.figures.bank=48", "--config.batch_size=16"]

SPLIT = ["--config.data.test_split=test[:9]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A ViT's run with RePre, one that decodes a single feature, one without a decoder, and a Swin's in grey."""
    root = tmp_path_factory.mktemp("drawn")
    states = {
        "multi": saved_run(root / "multi", "dino_vit_s"),
        "single": saved_run(root / "single", "dino_vit_s", "--config.repre.single=True", *SPLIT, change=doubled),
        "baseline": saved_run(root / "baseline", "dino_vit_s", "--config.repre.enabled=False"),
        "swin": saved_run(root / "swin", "moby_swin_t", *GREY),
    }
    return root, states


def doubled(state):
    """Other attention than that of the same random numbers."""
    return jax.tree.map(lambda leaf: 2 * leaf, state)


def draw(*arguments):
    return figures.main([*map(str, arguments)])


def looked_at(run, *, images=(), **overrides):
    """The subject, as the tool makes it."""
    config = figures_config.get_config()
    config.update_from_flattened_dict({"batch_size": 16, **overrides})
    return subject.Subject(config, run, sharding.make_mesh(16), images)


def test_weights_that_are_no_numbers_are_named(tmp_path, capsys):
    saved_run(tmp_path / "run", "moco_vit_s", change=lambda state: jax.tree.map(lambda leaf: leaf + np.nan, state))
    for kind in ("pyramid", "tsne", "reconstructions"):
        assert draw(kind, tmp_path / "run", *FEW) == 1
        assert "is not finite" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    """Two images of odd shapes by path: colours 24 x 61, grey 50 x 31."""
    rng, paths = np.random.default_rng(0), [tmp_path / "wide.png", tmp_path / "tall.jpg"]
    cv2.imwrite(str(paths[0]), rng.integers(255, size=(24, 61, 3)).astype(np.uint8))
    cv2.imwrite(str(paths[1]), rng.integers(255, size=(50, 31)).astype(np.uint8))
    return paths


def test_all_draws_each_kind_and_one_seed_gives_the_same_bytes(runs, tmp_path, capsys):
    root, _ = runs
    run = tmp_path / "run"
    shutil.copytree(root / "multi", run)
    (run / "config.json").write_text(config_json("dino_vit_s"))
    assert draw("all", run, "--seed=3", *FEW) == 0
    out = capsys.readouterr().out
    names = {f"{kind}{suffix}" for kind in KINDS for suffix in (".png", ".pdf")}
    assert {path.name for path in (run / "figures").iterdir()} == names
    drawn = [line for line in out.splitlines() if line.startswith("Drawn: ")]
    assert sorted(drawn) == sorted(f"Drawn: {run / 'figures' / kind}.png and .pdf" for kind in KINDS)
    assert "Silhouette: " in out
    first = {name: (run / "figures" / name).read_bytes() for name in names}
    assert draw("all", run, "--seed=3", *FEW) == 0
    assert {name for name in names if (run / "figures" / name).read_bytes() != first[name]} == set()
    for kind in ("attention", "augmentations"):
        assert draw(kind, run, "--seed=4", f"--out={tmp_path / 'other.png'}", *FEW) == 0
        assert (tmp_path / "other.png").read_bytes() != first[f"{kind}.png"]


def config_json(config):
    return json.dumps(resume.plain(command_line.parse(["main.py", f"--config=configs/{config}.py:tiny"])[0]))


def test_all_says_what_a_file_does_not_allow(runs, tmp_path, photos, capsys):
    root, _ = runs
    assert export.main([str(root / "swin"), f"--output={tmp_path / 'swin.safetensors'}"]) == 0
    assert draw("all", tmp_path / "swin.safetensors", "--images", *photos, "--config.data.name=none") == 0
    out = capsys.readouterr().out
    folder = tmp_path / "swin-figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        "attention.pdf",
        "attention.png",
        "pyramid.pdf",
        "pyramid.png",
    ]
    for left_out in (
        f"Left out, reconstructions: {tmp_path / 'swin.safetensors'} holds an encoder and no decoder",
        "Left out, tsne: t-SNE is of a data set's images",
        "Left out, neighbours: Data set none was not found",
        "Left out, augmentations: augmentations draws one run's own training images",
    ):
        assert left_out in out


def test_reconstructions_are_the_online_encoders(runs, tmp_path, monkeypatch):
    """As the method itself computes them, on the same images, whatever the default is (DINO's target)."""
    root, states = runs
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


def captured(monkeypatch, module, name):
    """The arguments of each call of a drawing function, which still draws."""
    calls, function = [], getattr(module, name)

    def call(*arguments, **settings):
        calls.append((arguments, settings))
        return function(*arguments, **settings)

    monkeypatch.setattr(module, name, call)
    return calls


def test_several_runs_stand_side_by_side_on_the_same_images(runs, tmp_path, monkeypatch):
    root, _ = runs
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


def test_titles_of_a_pyramids_columns_stay_whole(runs, tmp_path, monkeypatch):
    """On lines of their own, none of which is wrapped."""
    root, _ = runs
    drawn = captured(monkeypatch, pyramid_drawing, "draw")
    for name, second in (("multi", ["block 2", "4 x 4"]), ("swin", ["stage 2", "block 2", "4 x 4"])):
        assert draw("pyramid", root / name, *FEW, f"--out={tmp_path / 'p.png'}") == 0
        (arguments, settings) = drawn.pop()
        axes = pyramid_drawing.draw(*arguments, **settings).axes
        assert axes[2].get_title().splitlines() == second
        assert [axis.get_title() for axis in axes[: 1 + len(arguments[2])]] == ["image", *arguments[2]]


def test_neighbours_are_those_of_knn_and_wrong_ones_are_named(runs, tmp_path, monkeypatch):
    """By brute force over the bank's features, in which the same digits' order is that of pre-training's own k-NN."""
    root, _ = runs
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


def test_a_training_image_is_no_neighbour_of_its_own(runs):
    root, _ = runs
    overrides = {"figures.records": 3, "figures.bank": 10**6, "figures.k": 2, "data.train_split": "train[:50]"}
    one = looked_at(root / "multi", **overrides)
    one._dataset = dataclasses.replace(one.dataset, test=None)
    queries, similarity, found = neighbours.nearest(one)
    assert similarity.shape == (3, 2)
    assert not (found.numbers.reshape(3, 2) == queries.numbers[:, None]).any()
    assert (found.numbers < 50).all()


def test_images_by_path_are_cropped_as_test_images(runs, photos):
    """For one channel and for three, by the house's decoder."""
    root, _ = runs
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


AUGMENTATIONS = ("augmentations", "--config=configs/dino_vit_s.py:tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attention",), "Which run, or file of weights?"),
        (("attention", "NOWHERE"), "does not exist"),
        (("attention", "EMPTY"), "is no run: it has no folder checkpoints"),
        (("attention", "multi", "--config.figures.block=5"), "figures.block is 5, and multi has 2 blocks"),
        (("attention", "swin", "--config.figures.block=1"), "a Swin's map goes through all of its blocks"),
        (("attention", "multi", "--config.figures.mass=1.5"), "figures.mass is 1.5"),
        (("attention", "multi", "--config.figures.score=1"), "figures.score is 1"),
        (("attention", "multi", "--config.figures.masss=1"), "Did you mean 'mass'?"),
        (("attention", "multi", "--config.step=7"), "has no checkpoint 7"),
        (("attention", "multi", "--images", "NOWHERE"), "cannot be read: No such file"),
        (("attention", "multi", "--images", "NOIMAGE"), "are no image"),
        (("attention", "multi", "--images", "~/text.png"), "text.png cannot be read: 8 bytes are no image"),
        (("attention", "multi", "--out=~nobody7/a.png"), "there is no user 'nobody7'"),
        (("attention", "multi", "--images", "EMPTY"), "cannot be read: Is a directory"),
        (("attention", "multi", "--config=configs/dino_vit_s.py:tiny"), "The config's task is 'pretrain'"),
        (("attention", "multi", "--records=0"), "--records is 0"),
        (("attention", "multi", "--out=a.bmp"), "a file name ending in .png or .pdf"),
        (("attention", "--images", "NOWHERE", "--seed=1", "--", "multi"), "cannot be read: No such file"),
        (("attention", "--seed=1", "multi", "--config.step=7"), "has no checkpoint 7"),
        (("all", "multi", "--out=a.png"), "--out names one file"),
        (("pyramid", "multi", "single"), "pyramid is drawn of one run or file, got 2"),
        (("reconstructions", "baseline"), "has no decoder: repre.enabled was False"),
        (("reconstructions", "multi", "--config.network=target"), "trained on the features of the online encoder"),
        (("neighbours", "multi", "--config.figures.k=0"), "figures.k is 0"),
        (("tsne", "multi", "--config.figures.classes=1"), "have no clusters"),
        (("tsne", "multi", "--config.data.test_split=test[:1]"), "0 images of 0 classes that were chosen"),
        (("tsne", "multi", "--seed=-1"), "seed is -1"),
        (("augmentations", "multi"), "Nothing says how"),
        (("augmentations",), "--config is missing"),
        ((*AUGMENTATIONS, "--images", "NOIMAGE"), "leave --images out"),
        (("data", "--config=configs/moco_vit_s.py:tiny", "--config.data.name=none"), "Data set none was not found"),
        ((*AUGMENTATIONS, "--records=0"), "at least 1"),
        ((*AUGMENTATIONS, "--out=README.md/new/a.png"), "README.md/new cannot be written to: Not a directory"),
    ],
)
def test_what_is_refused(runs, tmp_path, monkeypatch, capsys, arguments, message):
    root, _ = runs
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    places = {"NOWHERE": tmp_path / "none", "EMPTY": tmp_path / "empty", "NOIMAGE": tmp_path / "text.png"}
    places |= {name: root / name for name in ("multi", "single", "baseline", "swin")}
    assert draw(*(places.get(argument, argument) for argument in arguments)) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert "Drawn" not in told.out


def test_a_figure_does_not_become_an_image_of_the_folder_that_it_is_of(tmp_path, capsys):
    """But in a run's own folder, which no scan looks into, and under a tool's own name, which it knows."""
    images = tmp_path / "photos"
    (images / "cat").mkdir(parents=True)
    command = (*AUGMENTATIONS, f"--config.data.name=folder:{images}")
    for out in (images / "cat" / "sheet.png", images / "sheet.png", images / "new" / "sheet.png"):
        assert draw(*command, f"--out={out}") == 1
        assert f"--out is {out}, in the folder of images {images}: it would be one" in capsys.readouterr().err
        assert not out.exists()
    (images / "run" / "figures").mkdir(parents=True)
    for name in ("config.json", "starts.jsonl"):
        (images / "run" / name).write_text("{}")
    for out in ("photos/run/figures/sheet.png", "photos/cat/sheet.pdf", "photos/augmentations.png", "sheet.png"):
        assert draw(*command, f"--out={tmp_path / out}") == 1
        assert "There are no images in" in capsys.readouterr().err, "it went on to the data"


@pytest.mark.parametrize("kind", ["attention", "all"])
def test_where_nothing_can_be_written_is_said_first(runs, tmp_path, capsys, kind):
    """Before the checkpoint is looked for, and so before anything is computed; no folder is left behind."""
    root, _ = runs
    run = shutil.copytree(root / "multi", tmp_path / "run")
    (run / "figures").write_text("a file in its place")
    assert draw(kind, run, "--config.step=7") == 1
    assert (
        f"{run / 'figures'} cannot be written to: File exists.\n  change:   --out=FILE.png" in capsys.readouterr().err
    )
    (run / "figures").unlink()
    assert draw("attention", run, "--config.step=7", f"--out={tmp_path / 'new' / 'deep' / 'a.png'}") == 1
    assert "has no checkpoint 7" in capsys.readouterr().err
    assert draw("attention", run, f"--out={run}.png", "--config.step=7") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert not (run / "figures").exists()
    (tmp_path / "folder.png").mkdir()
    assert draw("attention", run, f"--out={tmp_path / 'folder.png'}") == 1
    assert "expected: a file name ending in .png or .pdf" in capsys.readouterr().err


def test_drawing_renews_the_page_of_the_run(runs, tmp_path, capsys):
    root, _ = runs
    run = shutil.copytree(root / "multi", tmp_path / "run")
    assert draw("pyramid", run) == 0
    assert f"Report: {run / 'report.html'}" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "pyramid.png" in text
    assert ">Stopped<" in text, "no process goes on with it"
    assert "http-equiv" not in text
    with workdir.locked(run):
        assert draw("pyramid", run) == 0
    text = (run / "report.html").read_text()
    assert ">Not finished<" in text
    assert "http-equiv" in text
    (run / "report.html").unlink()
    assert draw("pyramid", run, f"--out={tmp_path / 'made' / 'for it' / 'elsewhere.png'}") == 0
    assert (tmp_path / "made" / "for it" / "elsewhere.png").read_bytes()[1:4] == b"PNG"
    assert not (run / "report.html").exists()
    (run / "report.html").mkdir()
    assert draw("pyramid", run) == 0
    assert "Warning: " in capsys.readouterr().out
