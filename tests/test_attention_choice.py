"""encoder.attention='auto': which kinds agree with float32, which is taken, and what a run that goes on keeps."""

import importlib

import jax.numpy as jnp
import pytest

from repre_jax.builders import attention, attention_kinds, methods
from repre_jax.core import manifest, run_files
from repre_jax.core.errors import UserError
from repre_jax.models import platform, self_attention
from repre_jax.running.workdir import locked
from repre_jax.system import environment, runtime
from repre_jax.tasks import pretrain


def config_of(name, variant="tiny"):
    return importlib.import_module(f"configs.{name}").get_config(variant)


def save(workdir):
    """A step, as far as is looked."""
    folder = workdir / run_files.CHECKPOINTS / "10"
    folder.mkdir(parents=True)
    run_files.write_json(manifest.path_of(folder), {"files": {"some": [1, "digest"]}})


@pytest.fixture(scope="module")
def vit():
    return attention.attentions(config_of("dino_vit_s", "tiny"))


def test_a_kind_that_differs_or_fails_is_named_and_not_taken(vit, monkeypatch):
    """A ViT's, of views of two sizes. Beside the real kind one that is wrong, one whose gradient is no number, one that
    breaks without a word, and one that cannot be had on a CPU."""
    real = self_attention.attend_qkv
    monkeypatch.setattr(self_attention, "KINDS", (*self_attention.KINDS, "wrong", "nan", "broken"))

    def in_other_kinds(kind, qkv, heads, bias=None):
        if kind == "broken":
            raise AssertionError
        output = real("xla", qkv, heads, bias)
        if kind == "nan":
            return output + jnp.where(output == output, 0.0, jnp.sqrt(output - output))  # 0, with a gradient of nan
        return output + 0.01 * jnp.roll(output, 1, axis=1) if kind == "wrong" else output

    monkeypatch.setattr(self_attention, "attend_qkv", in_other_kinds)
    found = attention_kinds.compare(("wrong", "nan", "broken", "cudnn", "xla"), vit)
    assert len(vit) == 2
    assert attention.fastest(found) == "xla"
    assert found["xla"].ms > 0
    assert found["wrong"].left_out.startswith("it differs by")
    assert found["nan"].left_out.startswith("it differs by nan")
    assert found["broken"].left_out == "it fails: AssertionError"
    assert found["cudnn"].left_out.startswith("it fails: ")
    said = attention.describe("xla", found)
    assert said.startswith("xla (wrong left out, it differs by ")
    assert "cudnn left out, it fails: " in said

    del found["xla"]
    with pytest.raises(UserError, match="no kind of attention agrees"):
        attention.fastest(found)


def test_of_a_frozen_encoder_values_alone_are_compared(monkeypatch):
    """On fewer images where an image's weights are large."""
    real = self_attention.attend_qkv
    monkeypatch.setattr(self_attention, "KINDS", (*self_attention.KINDS, "nan"))

    def without_gradient(kind, qkv, heads, bias=None):
        output = real("xla", qkv, heads, bias)
        return output + jnp.where(output == output, 0.0, jnp.sqrt(output - output)) if kind == "nan" else output

    monkeypatch.setattr(self_attention, "attend_qkv", without_gradient)
    encoder = methods.encoder_of(config_of("moco_vit_s", "tiny"))
    frozen = attention_kinds.of_encoder(encoder, (32, 64), learns=False)
    assert attention_kinds.compare(("nan",), frozen)["nan"].left_out is None
    (large,) = attention_kinds.of_encoder(encoder.clone(width=16, heads=4), (800, 800))
    _, (images, _) = large.of("xla")
    patches = (800 // encoder.patch) ** 2
    assert len(images) == max(1, 2**29 // (4 * 4 * (patches + 1) ** 2)) < attention_kinds.IMAGES


def test_a_task_on_a_trained_encoder_chooses_likewise(tmp_path, monkeypatch):
    asked = []

    def compare(kinds, attentions, *, timed):
        asked.extend(attentions)
        return {"cudnn": attention_kinds.Found(0.0)}

    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")
    monkeypatch.setattr(attention_kinds, "compare", compare)
    encoder, config = methods.encoder_of(config_of("moco_vit_s", "tiny")), config_of("finetune", "tiny")
    chosen, record = attention.of_trained(config, encoder, tmp_path, (16, 16), learns=False)
    assert (chosen.attention, config.encoder.attention, record["attention"]["kind"]) == ("cudnn",) * 3
    assert [(each.times, each.learns) for each in asked] == [(encoder.depth, False)]
    noted = {"attention": {"kind": "cudnn", "compared": {}}}
    assert attention.of_trained(config, encoder, tmp_path, (16, 16)) == (encoder, noted), "nothing is left open"


def test_windows_are_compared_stage_by_stage():
    swin = attention.attentions(config_of("moby_swin_t", "tiny"))
    found = attention_kinds.compare(("xla", "cudnn"), swin, timed=False)
    assert len(swin) > 1
    assert "which Swin has" in found["cudnn"].left_out or "on cpu" in found["cudnn"].left_out
    assert (found["xla"].ms, found["xla"].left_out) == (None, None)


def test_untimed_the_first_that_agrees_is_taken():
    found = {
        "pallas": attention_kinds.Found(left_out="it fails: no"),
        "xla": attention_kinds.Found(0.1),
        "cudnn": attention_kinds.Found(0.0),
    }
    assert attention.fastest(found) == "xla"


def test_a_run_keeps_its_kind_on_the_same_devices(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")
    monkeypatch.setattr(attention_kinds, "compare", lambda kinds, *_, **__: {"cudnn": attention_kinds.Found(0.0, 1.0)})
    config = config_of("moco_vit_s", "tiny")
    settled, record = attention.settle(config, tmp_path)
    assert record["attention"]["compared"] == {"cudnn": {"difference": 0.0, "ms": 1.0, "left_out": None}}
    assert (config.encoder.attention, settled.encoder.attention) == ("auto", "cudnn")
    assert "Attention: cudnn (cudnn 1.00 ms)" in capsys.readouterr().out

    start = record | {"step": 0, "devices": environment.devices()}
    start["attention"] = start["attention"] | {"kind": "pallas"}
    run_files.write_rows(tmp_path / run_files.STARTS, [start])
    assert attention.settle(config, tmp_path)[0].encoder.attention == "cudnn", "it has saved nothing: was it the kind?"
    save(tmp_path)
    capsys.readouterr()
    assert attention.settle(config, tmp_path)[0].encoder.attention == "pallas"

    run_files.write_rows(tmp_path / run_files.STARTS, [start | {"devices": "8 x NVIDIA A100"}])
    assert attention.settle(config, tmp_path)[0].encoder.attention == "cudnn"
    assert "chosen anew: the last start was on 8 x NVIDIA A100" in capsys.readouterr().out

    (tmp_path / run_files.RESULT).write_text("{}")
    config.may_change = ("epochs",)  # a finished run that goes on
    assert attention.settle(config, tmp_path)[0].encoder.attention == "cudnn"
    assert "chosen anew: the last start was on 8 x NVIDIA A100" in capsys.readouterr().out
    config.may_change = ()  # one that does not: it compares nothing, and keeps what it had
    assert attention.settle(config, tmp_path)[1]["attention"] == {"kind": "xla", "compared": {}}
    assert capsys.readouterr().out == ""
    run_files.write_rows(tmp_path / run_files.STARTS, [start])
    assert attention.settle(config, tmp_path)[1]["attention"] == {"kind": "pallas", "compared": {}}


def test_the_last_start_counts_whoever_chose_its_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")
    monkeypatch.setattr(attention_kinds, "compare", lambda kinds, *_, **__: {"pallas": attention_kinds.Found(0.0, 1.0)})
    config = config_of("moco_vit_s", "tiny")
    save(tmp_path)
    old = {"step": 0, "devices": environment.devices()}  # of a version without the choice
    run_files.write_json(tmp_path / run_files.CONFIG, {"encoder": {"attention": "xla"}})
    run_files.write_rows(tmp_path / run_files.STARTS, [old])
    assert attention.settle(config, tmp_path)[0].encoder.attention == "xla"

    run_files.write_json(tmp_path / run_files.CONFIG, {"encoder": {"attention": "auto"}})
    config.encoder.attention = "xla"
    _, named = attention.settle(config, tmp_path)
    run_files.write_rows(tmp_path / run_files.STARTS, [old | {"attention": {"kind": "pallas"}}, old | named])
    config.encoder.attention = "auto"
    assert attention.settle(config, tmp_path)[0].encoder.attention == "xla"
    assert capsys.readouterr().out == ""

    run_files.write_rows(tmp_path / run_files.STARTS, [old | {"attention": {"kind": "cudnn"}}])  # not of float32
    assert attention.settle(config, tmp_path)[0].encoder.attention == "pallas"
    assert "chosen anew: the last start's, cudnn, does not take this config" in capsys.readouterr().out


def test_nothing_is_compared_for_a_workdir_that_another_process_is_at(tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "settle", lambda *_: pytest.fail("it has compared"))
    with locked(tmp_path), pytest.raises(UserError, match="Another process is at work"):
        pretrain.run(config_of("moco_vit_s", "tiny"), tmp_path)


def test_configs_of_hosts_are_compared_before_kinds_are(tmp_path, monkeypatch):
    """Hosts whose configs differ would otherwise wait for each other's choice."""
    called = []
    monkeypatch.setattr(runtime, "check_same", lambda what, mine: called.append(what))
    monkeypatch.setattr(attention, "settle", lambda config, workdir: called.append("choice") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain.run(config_of("moco_vit_s", "tiny"), tmp_path)
    assert called == ["config", "choice"]


def test_on_a_cpu_it_is_attend(tmp_path):
    settled, _ = attention.settle(config_of("moco_vit_s", "tiny"), tmp_path)
    assert settled.encoder.attention == "xla"
