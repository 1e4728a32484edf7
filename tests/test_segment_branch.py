"""`configs/segment.py` on a run whose checkpoint lacks the encoder that is asked for."""

import contextlib

import numpy as np

import main
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.running import resume
from tests.helpers import pretraining
from tests.helpers.evaluating import command


def test_a_checkpoint_without_the_branch_that_is_asked_for_is_one_message(tmp_path, capsys):
    """SimCLR keeps no moving average; of its checkpoint nothing is read but what it says of itself."""
    config, _ = pretraining.build(framework="simclr")
    with contextlib.closing(Checkpoints(tmp_path / "run" / "checkpoints")) as checkpoints:
        checkpoints.make_room([])
        state = {"params": {"encoder": np.zeros(1)}, "target": None}
        checkpoints.save(3, state, {"config": resume.plain(config), "data": {}, "pixels": {}})
    argv = command(
        "configs/segment.py", tmp_path / "run", tmp_path / "new", "--config.network=target", variants="scenes,tiny"
    )
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert "has no target: simclr keeps no moving average.\n  change:   --config.network=online" in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()
