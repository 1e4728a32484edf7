"""Which encoder an evaluation looks at, where that is a run's."""

import dataclasses
import json
import shutil

import chex
import jax
import numpy as np
import pytest

import main
from configs import knn as knn_config
from repre_jax.core import sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.pretrained import backbone
from repre_jax.running import resume
from repre_jax.tasks import pretrain
from tests.helpers import pretraining
from tests.helpers.runs import TINY, final_state


def asked(init_from, **overrides):
    config = knn_config.get_config("tiny")
    config.update_from_flattened_dict({"init_from": str(init_from)} | overrides)
    return config


def find(init_from, workdir, **overrides):
    return backbone.find(asked(init_from, **overrides), workdir)


def saved(folder, framework):
    """A run's checkpoint 3, whose online encoder is the first one + 1 and whose target is it + 2; (config, first
    encoder)."""
    config, method = pretraining.build(framework=framework)
    first = pretraining.init(method)
    online, target = (jax.tree.map(lambda x, n=n: x + n, tree) for n, tree in ((1, first.params), (2, first.target)))
    state = dataclasses.replace(first, params=online, target=target)
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.make_room([])
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    checkpoints.save(3, state, {"config": resume.plain(config), "data": {}, "pixels": pixels})
    checkpoints.close()
    return folder, config, first.params["encoder"]


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("runs") / "dino", "dino")


@pytest.fixture(scope="module")
def simclr(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("runs") / "simclr", "simclr")


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(jax.device_count())


def test_online_and_target_are_the_checkpoints(finished, tmp_path, mesh):
    state = final_state(finished[0])
    for network, tree in (("online", "params"), ("target", "target")):
        found = find(finished[0], tmp_path, network=network)
        assert found.origin == {"init_from": str(finished[0]), "framework": "moco_v3", "branch": network, "step": 8}
        params = found.load(mesh)
        chex.assert_trees_all_equal(params, state[tree]["encoder"])
        assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {sharding.replicated(mesh)}
    kernels = [np.asarray(state[tree]["encoder"]["block_1"]["attn"]["qkv"]["kernel"]) for tree in ("params", "target")]
    assert not np.array_equal(*kernels)


def test_another_step_is_that_checkpoint(finished, tmp_path, mesh):
    found = find(finished[0], tmp_path, step=4)
    shutil.copytree(finished[0] / "checkpoints" / "4", tmp_path / "checkpoints" / "4")
    chex.assert_trees_all_equal(found.load(mesh), final_state(tmp_path, 4)["params"]["encoder"])


def test_untrained_is_the_runs_encoder_before_its_first_step(finished, tmp_path, mesh):
    """To the bit, by either way to ask for it."""
    first = pretrain.build(main.parse(TINY)[0]).step.init_state().params["encoder"]
    chex.assert_trees_all_equal(find(finished[0], tmp_path).untrained(mesh), first)
    chex.assert_trees_all_equal(find(finished[0], tmp_path, network="untrained").load(mesh), first)


def test_untrained_with_another_framework_size_and_flavour(dino, tmp_path, mesh):
    folder, _, first = dino
    found = find(folder, tmp_path, network="untrained", **{"data.image_size": (32, 32)})
    chex.assert_trees_all_equal(found.load(mesh), first)
    assert found.encoder.image_size == pretraining.SIZE


def test_learned_positions_that_are_resized_once_are_said_so(dino, finished, tmp_path):
    """A run's; of a file that is no run's, interop/timm.py says it. Fixed ones need nothing."""
    for source, size, said in (
        (dino[0], (16, 24), "learned ones of 2 x 4 patches, resized once to 4 x 6"),
        (dino[0], pretraining.SIZE, None),
        (finished[0], (16, 24), None),
    ):
        config = asked(source, **{"data.image_size": size})
        assert backbone.find(config, tmp_path, resize_positions=True).resized == said


def test_the_branch_is_the_one_that_the_authors_evaluate(dino, simclr, tmp_path, mesh):
    for (folder, _, first), network, offset in ((dino, "target", 2), (simclr, "online", 1)):
        config = asked(folder)
        found = backbone.find(config, tmp_path)
        assert config.network == found.origin["branch"] == network
        shifted = jax.tree.map(lambda x, offset=offset: x + offset, first)
        chex.assert_trees_all_equal(found.load(mesh), shifted)


def test_a_framework_without_a_target_has_none(simclr, tmp_path):
    with pytest.raises(UserError, match=r"has no target: simclr keeps no moving average.\n.*network=online"):
        find(simclr[0], tmp_path, network="target")


def test_what_is_not_set_is_the_runs_and_what_is_set_stays(dino, tmp_path):
    folder, theirs, _ = dino
    config = asked(folder, **{"data.image_size": (16, 16), "data.test_crop": 0.5})
    found = backbone.find(config, tmp_path)
    assert (config.data.image_size, config.data.test_crop) == ((16, 16), 0.5)
    assert (config.step, config.dtype, config.data.name, config.data.channels) == (3, theirs.dtype, "digits", 3)
    assert (config.encoder.width, config.encoder.depth, config.encoder.heads) == (32, (3,), (4,))
    assert (found.encoder.width, found.encoder.depth, found.encoder.patch, found.encoder.variant) == (32, 3, 4, "dino")
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"encoder.width": 64}, "encoder.width is 64, and .* has 32"),
        ({"encoder.name": "swin_t"}, "encoder.name is 'swin_t', and .* has 'vit_s'"),
        ({"encoder.variant": "deit"}, "encoder.variant is 'deit', and .* has 'dino'"),
        ({"data.channels": 1}, "data.channels is 1, and .* has 3"),
        ({"step": 7}, "has no checkpoint 7, or not any more.\n  expected: one of 3"),
        ({"network": "student"}, "Unknown network 'student'.\n  expected: online, target, untrained"),
        ({"init_from": "."}, "is neither a run, with a folder checkpoints, nor a file of weights"),
        ({"init_from": ""}, "init_from is not set: which encoder?"),
    ],
)
def test_what_contradicts_the_run_is_refused(dino, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        find(**({"init_from": dino[0], "workdir": tmp_path} | overrides))


def test_its_own_workdir_is_refused(dino):
    with pytest.raises(UserError, match="init_from is the workdir itself"):
        find(dino[0], dino[0])


def test_a_damaged_checkpoint_is_told_and_without_a_step_passed_over(finished, tmp_path, mesh, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (run / "checkpoints" / "8" / "record" / "metadata").write_text("{}")
    with pytest.raises(UserError, match=r"Checkpoint 8 of .* is damaged"):
        find(run, tmp_path / "knn", step=8)
    capsys.readouterr()
    assert find(run, tmp_path / "knn").origin["step"] == 6
    output = capsys.readouterr().out
    assert output.startswith("Ignored: checkpoint 8")
    assert output.count("\n") == 1


def test_an_evaluation_that_goes_on_keeps_its_step(finished, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"init_from": str(finished[0]), "step": 4}))
    assert find(finished[0], tmp_path).origin["step"] == 4
    assert find(finished[0], tmp_path, step=6).origin["step"] == 6
    (tmp_path / "config.json").write_text(json.dumps({"init_from": "another run", "step": 4}))
    assert find(finished[0], tmp_path).origin["step"] == 8


def test_a_run_lends_its_encoder_without_a_class_token_and_with_other_levels(dino, tmp_path, mesh):
    """SETR-MLA's encoder, of any run: the class token and its position are left out when the weights are loaded."""
    folder, _, first = dino
    found = find(folder, tmp_path, **{"encoder.class_token": False, "encoder.pyramid_blocks": (1, 2)})
    assert (found.encoder.class_token, found.encoder.pyramid_blocks) == (False, (1, 2))
    params = found.load(mesh)
    assert "cls_token" not in params
    np.testing.assert_array_equal(params["pos_embed"], first["pos_embed"][:, 1:] + 2)
    np.testing.assert_array_equal(params["norm"]["scale"], first["norm"]["scale"] + 2)
    images = np.zeros((1, *found.encoder.image_size, 3), np.float32)
    output = jax.jit(found.encoder.apply)({"params": params}, images)
    assert output.cls is None
    assert len(output.pyramid) == 2
