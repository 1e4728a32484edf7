"""The commands of configs/linear.py and configs/finetune.py, for their tests."""

import contextlib
import json
import os
import shutil
import signal

import jax
import pytest

import main
from repre_jax.core import run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.running.recorder import Recorder
from repre_jax.tasks import pretrain
from tests.helpers.named import unnamed
from tests.helpers.runs import TINY

ON_CPU = {"kind": "xla", "compared": {}}  # the attention of a start
LINEAR, FINETUNE = "configs/linear.py", "configs/finetune.py"


def command(config, source, workdir, *arguments, variants="tiny"):
    of = [f"--config.init_from={source}"] if source else []
    return ["main.py", "--config", f"{config}:{variants}", *of, "--workdir", str(workdir), *arguments]


def evaluate(config, source, workdir, *arguments, variants="tiny"):
    assert main.main(command(config, source, workdir, *arguments, variants=variants)) == 0
    assert unnamed(workdir) == set()
    return json.loads((workdir / "result.json").read_text())


def attention_of_start(workdir):
    """What the last start recorded of its choice."""
    return run_files.read_metrics(workdir / run_files.STARTS)[-1]["attention"]


def begun(source, workdir, *arguments):
    """A probe that was ended after its third step."""
    after = Recorder.after

    def stop_at_three(self, step, state, values):
        after(self, step, state, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "after", stop_at_three)
        assert main.main(command(LINEAR, source, workdir, *arguments)) == 128 + signal.SIGTERM


def retrain(run):
    """Gives checkpoint 8, the only one then, the weights of checkpoint 6."""
    with contextlib.closing(Checkpoints(run / "checkpoints")) as checkpoints:
        job = pretrain.build(main.parse([*TINY])[0])
        other = checkpoints.restore(6, jax.eval_shape(job.step.init_state), job.step.state_sharding)
        record = checkpoints.record(8)
    for item in (run / "checkpoints").iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    with contextlib.closing(Checkpoints(run / "checkpoints")) as checkpoints:
        checkpoints.save(8, other, record)
