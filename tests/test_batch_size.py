"""config.batch_size=0: the largest batch that fits."""

import functools
import json

import jax
import pytest

import main
from repre_jax.builders import batch_size, compiled_step
from repre_jax.core.errors import UserError
from repre_jax.running import memory
from tests.helpers.runs import TINY, run

GIB = 2**30
SMALL = [
    "--config.repre.enabled=False", "--config.data.image_size=(16,16)", "--config.encoder.depth=(1,)",
    "--config.encoder.pyramid_levels=1", "--config.augment.jitter_probability=0.0",
]  # fmt: skip


def config(*arguments, path="configs/moco_vit_s.py:tiny"):
    return main.parse(["main.py", f"--config={path}", "--config.batch_size=0", *SMALL, *arguments])[0]


@pytest.fixture
def device(monkeypatch, two_devices):
    """Sets a device's memory and, in place of compiling, what a batch takes; returns the batches asked for."""

    def set_to(limit, taken):
        asked = []
        monkeypatch.setattr(memory, "per_device", lambda: limit)
        monkeypatch.setattr(batch_size, "_memory", lambda _, size: asked.append(size) or int(taken(size)))
        return asked

    return set_to


def test_the_largest_that_fits_is_taken(device, capsys):
    """GIB + 16 MiB an image, of 0.9 of 4 GiB: 166 images."""
    asked = device(4 * GIB, lambda size: GIB + size * 2**24)
    assert batch_size.find(config()) == 128
    assert asked == [2, 4, 128]
    assert "Batch size 128: a step takes 3.00 GiB of 4.00 GiB a device." in capsys.readouterr().out


def test_what_grows_faster_than_expected_is_halved(device):
    """In-batch logits grow with the square of the batch."""
    asked = device(4 * GIB, lambda size: GIB + size * 2**23 + size**2 * 2**17)
    assert batch_size.find(config()) == 64
    assert asked == [2, 4, 256, 128, 64]


def test_what_does_not_fit_at_all_is_refused(device):
    device(GIB, lambda size: GIB + size)
    with pytest.raises(UserError, match=r"batch_size 0: not even 2 images fit: .*\n  change:   --config.encoder.remat"):
        batch_size.find(config())


def test_what_the_compiler_refuses_does_not_fit(monkeypatch, two_devices):
    """A TPU's compiler ends with an error where a GPU's plans more than there is."""
    compiled = compiled_step.compile_step

    def refuse(sized):
        if sized.batch_size > largest:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error.")
        return compiled(sized)

    monkeypatch.setattr(memory, "per_device", lambda: 4 * GIB)
    monkeypatch.setattr(compiled_step, "compile_step", refuse)
    largest = 2
    assert batch_size.find(config()) == 2
    largest = 0
    with pytest.raises(UserError, match=r"not even 2 images fit: a step takes more than 4\.00 GiB a device"):
        batch_size.find(config())


def test_records_parts_and_queues_bound_it(device):
    device(1 << 50, lambda size: size)
    assert batch_size.find(config("--config.data.train_split=train[:100]")) == 64
    assert batch_size.find(config("--config.data.train_split=train[:100]", "--config.accumulate=3")) == 96
    assert batch_size.find(config("--config.framework.queue=32", path="configs/moby_vit_s.py:tiny")) == 32
    with pytest.raises(UserError, match=r"no batch of 2 images .* up to 1, goes"):
        batch_size.find(config("--config.data.train_split=train[:1]"))


def test_a_run_keeps_the_batch_that_was_found(monkeypatch, tmp_path, two_devices):
    """Of real programs, each compiled once; the next start, which finds more room, goes on with it."""
    monkeypatch.setattr(batch_size, "LARGEST", 8)
    measured = functools.cache(lambda size, memory_of=batch_size._memory: memory_of(config(), size))
    monkeypatch.setattr(batch_size, "_memory", lambda _, size: measured(size))
    assert measured(2) < measured(4) < measured(8) < memory.per_device()
    room = (measured(4) + measured(8)) // 2
    monkeypatch.setattr(memory, "per_device", lambda: int(room / batch_size.SHARE))
    run(tmp_path / "run", "--config.batch_size=0", *SMALL, "--config.total_steps=2")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 4
    monkeypatch.setattr(memory, "per_device", lambda: 1 << 50)
    argv = [*TINY, "--workdir", str(tmp_path / "run"), "--config.batch_size=0", *SMALL, "--config.checkpoint.keep=9"]
    assert main.main([*argv, "--config.total_steps=2"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 4
