"""Our half of the comparison with PyTorch: gives benchmarks/torch_step.py the same weights and images, and asks it."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from benchmarks.steps import Step
from repre_jax.builders import augmentation, methods
from repre_jax.core import optim
from repre_jax.core.errors import UserError
from repre_jax.interop import timm, timm_models, timm_names
from repre_jax.models.vit import ViT
from repre_jax.system import huge_pages
from repre_jax.train.pretrain import Pretraining

FRAMEWORKS = ("moco_v3", "moby")


class Peer:
    """The other process. about: its versions and device."""

    def __init__(self, process: subprocess.Popen):
        if process.stdin is None or process.stdout is None:
            raise ValueError("The process needs pipes.")
        self._process, self._questions, self._answers = process, process.stdin, process.stdout
        self.about = self._answer()

    def ask(self, what: str) -> Any:
        """'loss', 'step 5' (seconds a step of five), or 'memory', as benchmarks/torch_step.py has them."""
        self._questions.write(f"{what}\n")
        self._questions.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it, by the end of its questions."""
        self._questions.close()
        self._process.wait()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise UserError(f"The program in PyTorch ended with status {self._process.wait()}; it says why above.")
        return json.loads(line)


def kernels(python: str) -> str:
    """Which vector instructions PyTorch's own kernels take on this processor, and its MKL's products.

    MKL says so where it is asked to tell of each call; what it knows no better it calls 'Intel(R) Architecture'.
    """
    program = "import torch; x = torch.ones(64, 64); x @ x; print('own', torch.backends.cpu.get_cpu_capability())"
    told = {"MKL_VERBOSE": "1"}
    done = subprocess.run([python, "-c", program], env=os.environ | told, capture_output=True, text=True, check=False)
    own = re.search(r"^own (\S+)", done.stdout, re.MULTILINE)
    mkl = re.search(r"oneMKL (.+?) Product.* for Intel\(R\) 64 architecture (.+?) processors", done.stdout)
    said = [f"kernels for {own[1]}"] if own else []
    return ", ".join([*said, f"MKL {mkl[1]} for {mkl[2]}" if mkl else "no MKL, or one that does not tell"])


@contextlib.contextmanager
def started(step: Step, python: str, *, compiled: bool, pages: bool) -> Iterator[Peer]:
    """The peer with this step's weights. python: an interpreter that has torch, timm and safetensors. pages:
    whether it gets this process's GLIBC_TUNABLES (system/huge_pages.py), or none, as PyTorch's users start it.

    Raises UserError when the config is one that the program does not know, or it cannot start.
    """
    _check(step.config)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), step, compiled)
        program = Path(__file__).with_name("torch_step.py")
        try:
            process = subprocess.Popen(
                [python, str(program), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ if pages else os.environ | {huge_pages.VARIABLE: ""},
            )
        except OSError as error:
            raise UserError(f"{python} cannot be started: {error.strerror}.\n  change:   --torch-python") from None
        try:
            peer = Peer(process)
            yield peer
            peer.close()
        finally:
            process.kill()
            process.wait()


def first_loss(config: ConfigDict, step: Step) -> float:
    """Ours, of step 0's weights and the views that the peer gets, in float32, without dropped paths."""
    plain = config.copy_and_resolve_references()
    plain.dtype, plain.encoder.drop_path = "float32", 0.0
    method = methods.build_method(plain, step.program.plan)
    with jax.default_matmul_precision("highest"):
        loss = jax.jit(lambda state, pixels: method.loss(state.params, state, pixels, method.target(state, pixels))[0])
        return float(loss(step.state, step.program.method.augment(step.state.rng, 0, step.batch)))


def _check(config: ConfigDict) -> None:
    repre = config.repre
    known = {
        f"framework.name {' or '.join(FRAMEWORKS)}": config.framework.name in FRAMEWORKS,
        "optim.name adamw": config.optim.name == "adamw",
        "accumulate 1": config.accumulate == 1,
        "colours of 3 channels, torchvision's": config.data.channels == 3 and config.augment.colours == "torchvision",
        "a decoder of convolutions on all features": repre.operator == "conv" and not repre.single,
    }
    wrong = [what for what, fits in known.items() if not fits]
    if wrong:
        raise UserError(f"--peer torch does not know this config.\n  expected: {', '.join(wrong)}")


def _write(folder: Path, step: Step, compiled: bool) -> None:
    config, method, params = step.config, step.program.method, step.state.params
    size = augmentation.image_size(config)
    pixels = method.augment(step.state.rng, 0, step.batch)
    arrays = {f"encoder.{name}": x for name, x in timm.dump(params["encoder"], method.encoder, image_size=size).items()}
    for part in ("projector", "predictor", "decoder", "balance"):
        flat = traverse_util.flatten_dict(params.get(part, {}), sep="/")
        arrays |= {_torch_name(f"{part}/{path}"): timm_names.to_timm(path, np.asarray(x)) for path, x in flat.items()}
    arrays |= {name: np.asarray(x) for name, x in step.state.framework_state.items() if name.startswith("queue")}
    arrays |= {"batch": np.asarray(step.batch.images), "views": np.asarray(pixels.views)}
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / "arrays.safetensors")
    (folder / "spec.json").write_text(json.dumps(_spec(step, size, compiled)))


def _spec(step: Step, size: tuple[int, int], compiled: bool) -> dict[str, Any]:
    config, method = step.config, step.program.method
    encoder, reconstruction = method.encoder, method.reconstruction
    decay, scale = (_by_torch_name(method, step.state.params, name) for name in ("weight_decay", "lr_scale"))
    is_vit = isinstance(encoder, ViT)
    return {
        "timm": {
            "model": timm_models.NAMES[config.encoder.name],
            "arguments": timm_models.arguments(encoder, size),
        },
        "indices": [n - 1 for n in encoder.pyramid_blocks]
        if isinstance(encoder, ViT)
        else list(range(len(encoder.depth))),
        "drop_path": encoder.drop_path,
        "decoder": reconstruction
        and {
            "views": reconstruction.views,
            "fusion_layers": reconstruction.decoder.fusion_layers,
            "patch": reconstruction.decoder.patch,
        },
        "out_norm": method.framework.projector.out_norm is not None,
        "temperature": config.framework.temperature,
        "augmentation": [dataclasses.asdict(one) for one in method.augmentation],
        "mean": list(method.mean),
        "std": list(method.std),
        "dtype": config.dtype,
        "frozen": [name for name, value in scale.items() if value == 0]
        + (["encoder.pos_embed"] if is_vit and encoder.fixed_positions else []),
        "weight_decay": {name: config.optim.weight_decay if value is None else value for name, value in decay.items()},
        "lr": step.program.plan.peak_lr,
        "betas": [config.optim.b1, config.optim.b2],
        "eps": config.optim.eps,
        "clip_norm": config.optim.clip_norm,
        "momentum": config.framework.momentum,
        "compile": compiled,
    }


def _torch_name(path: str) -> str:
    if path.startswith("encoder/"):
        return f"encoder.{timm_names.timm_name(path.removeprefix('encoder/'))}"
    return re.sub(r"/(kernel|scale)$", "/weight", path).replace("/", ".")


def _by_torch_name(method: Pretraining, params: dict[str, Any], name: str) -> dict[str, float | None]:
    values = optim.values_by_path(params, method.rules, name, default=lambda _: optim.PROPERTIES[name])
    flat = traverse_util.flatten_dict(values, sep="/", is_leaf=lambda _, x: not isinstance(x, dict))
    return {_torch_name(path): value for path, value in flat.items()}
