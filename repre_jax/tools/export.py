"""Writes the encoder of a run to a file for other programs, with a card beside it that says what it is.

  python -m repre_jax.tools.export RUN [--network online|target] [--format timm|transformers|npz] [--step N]
      [--output FILE] [--force]

timm: safetensors under timm's own names and layouts, which timm.create_model with the card's arguments loads strictly.
transformers: a folder that transformers.AutoModel.from_pretrained opens, and AutoImageProcessor.
npz: our own parameter paths, such as 'block_1/attn/qkv/kernel'. --config.init_from=FILE takes all three.
Before the file gets its name it is read back, and its encoder must give the checkpoint's features. Any machine will do.
"""

import argparse
import contextlib
import dataclasses
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.data import deep
from repre_jax.interop import files, hub, hub_config, timm, timm_models
from repre_jax.models import encoders, swin, vit
from repre_jax.models.encoders import Encoder
from repre_jax.pretrained import saved_run, weight_file
from repre_jax.report import console
from repre_jax.system import command_line, environment

# What the name of the file ends in; transformers' is a folder, and its file has the name that transformers looks for.
FORMATS = {"timm": ".safetensors", "transformers": "", "npz": ".npz"}
IN_FOLDER = "model.safetensors"
IMAGES = 2  # that both encoders are compared on
TOLERANCE = 1e-6  # relative; float32 of the same parameters should not differ at all
OUTPUT = f"the file, of transformers the folder; else RUN/{run_files.EXPORT}/FRAMEWORK-ENCODER-NETWORK-STEP"
INTERPOLATION = "bicubic"  # of test images in our evaluations (configs/base_evaluation.py)
NOT_SHAPE = ("parent", "name", "dtype", "remat", "drop_path")  # fields of an encoder that its features do not depend on


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=config_paths.argument, help="the workdir of a run that trains an encoder")
    parser.add_argument(
        "--network",
        "--branch",  # its name until 0.1.0
        choices=("online", "target"),
        help="else what the framework's authors evaluate",
    )
    parser.add_argument("--format", choices=FORMATS, default="timm")
    parser.add_argument("--step", type=int, help="of the checkpoint; else the newest whole one")
    parser.add_argument("--output", type=config_paths.argument, help=OUTPUT)
    parser.add_argument("--force", action="store_true", help="replace a file that is already there")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    return command_line.exit_status(lambda: _export(arguments), "Interrupted. Nothing was written.")


def _export(arguments: argparse.Namespace) -> None:
    run = config_paths.absolute(arguments.run)
    saved = saved_run.saved(run, arguments.network, arguments.step, keys="--", any_task=True)
    saved.config.dtype = "float32"
    saved.config.encoder.update(drop_path=0.0, remat=False)  # as it is used, not trained
    encoder, size = methods.encoder_of(saved.config), augmentation.image_size(saved.config)
    path = _path(arguments, run, saved)
    more, opened_by = {}, {}
    if arguments.format == "transformers":
        opened_by = hub_config.config(encoder, size)
    if arguments.format == "timm":
        name = timm_models.NAMES[saved.config.encoder.name]
        more = {"timm": {"model": name, "arguments": timm_models.arguments(encoder, size)}}
    with _drafts(path.parent) as folder:  # first of all: who cannot write there need not wait
        params = jax.device_get(saved.load(sharding.make_mesh(jax.device_count())))
        draft = folder / path.name
        _write(draft, arguments.format, params, encoder, size)
        difference = _difference(params, _read_back(draft, encoder, size), encoder, size)
        if difference > TOLERANCE:
            raise UserError(
                f"The encoder read back from the file gives other features: the largest relative difference is "
                f"{difference:.3g}.\n  expected: at most {TOLERANCE:g}\n"
                "  change:   nothing was written; this is a fault of this program or of the disk"
            )
        card = _card(draft, saved, encoder, size, difference) | more
        run_files.write_json(weight_file.card_of(draft), card)
        if arguments.format == "transformers":
            run_files.write_json(draft.with_name(hub_config.FILE), opened_by)
            run_files.write_json(
                draft.with_name(hub_config.PREPROCESSOR), hub_config.preprocessor(card["preprocessing"])
            )
        # The file last: a card beside another one is refused by its SHA-256, while a file without one would be taken.
        for ready in (*_beside(draft, arguments.format), draft):
            run_files.move(ready, path.with_name(ready.name))
    print(console.table(_told(card, path, encoder)))


def _write(file: Path, kind: str, params: Any, encoder: Encoder, size: tuple[int, int]) -> None:
    """The file of weights."""
    if kind == "transformers":
        files.write(file, hub.dump(params, encoder), hub.METADATA)
    elif kind == "timm":
        files.write(file, timm.dump(params, encoder, image_size=size))
    else:
        files.write(file, traverse_util.flatten_dict(params, sep="/"))


def _beside(file: Path, kind: str) -> list[Path]:
    """What lies beside the file: its card, and what transformers reads."""
    names = (hub_config.FILE, hub_config.PREPROCESSOR) if kind == "transformers" else ()
    return [*(file.with_name(name) for name in names), weight_file.card_of(file)]


def _read_back(file: Path, encoder: Encoder, size: tuple[int, int]) -> Any:
    """The parameters, as any evaluation reads them, but without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        return weight_file.parameters(weight_file.arrays(file), encoder, size)


def _path(arguments: argparse.Namespace, run: Path, saved: saved_run.Saved) -> Path:
    """Where the file goes. Raises UserError when it cannot, or something is there."""
    ending = FORMATS[arguments.format]
    if arguments.output is None:
        names = (saved.framework, saved.config.encoder.name, saved.network, str(saved.step))
        path = run / run_files.EXPORT / f"{'-'.join(names)}{ending}"
    else:
        path = config_paths.absolute(arguments.output)
        if ending and path.suffix != ending:
            raise UserError(
                f"--output is {path}, and --format is {arguments.format}.\n"
                f"  expected: a file name ending in {ending}\n"
                f"  change:   --output, or --format to one of {', '.join(FORMATS)}"
            )
    if arguments.format == "transformers":
        path /= IN_FOLDER
    there = [file for file in (path, *_beside(path, arguments.format)) if run_files.exists(file)]
    if there and not arguments.force:
        raise UserError(f"{there[0]} is there already.\n  change:   --force replaces it; or --output=FILE")
    return path


@contextlib.contextmanager
def _drafts(folder: Path) -> Iterator[Path]:
    """A folder within `folder`, for files that are to be moved there when they are whole; removed in the end.

    `folder` and those above it are made where they are not there, and removed where nothing is in them in the end.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run_files.made(folder))
            drafts = stack.enter_context(run_files.drafts(folder))
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}.\n  change:   --output=FILE, in another folder"
            ) from None
        yield drafts


def _difference(ours: Any, read_back: Any, encoder: Encoder, size: tuple[int, int]) -> float:
    """Largest difference of pooled features and tokens on a fixed batch, relative to the largest of the checkpoint's.

    Raises UserError when the checkpoint's are not finite.
    """
    images = np.random.default_rng(0).standard_normal((IMAGES, *size, encoder.channels), np.float32)
    apply = jax.jit(encoder.apply)
    one, other = (apply({"params": params}, images) for params in (ours, read_back))
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in ((one.pooled, other.pooled), (one.tokens, other.tokens))]
    if not all(np.isfinite(a).all() for a, _ in pairs):
        raise UserError(
            "The checkpoint's encoder gives features that are not finite.\n  change:   --step to another one"
        )
    least = np.finfo(np.float32).tiny
    return max(float(np.nan_to_num(np.abs(a - b), nan=np.inf).max() / max(np.abs(a).max(), least)) for a, b in pairs)


def _card(
    file: Path, saved: saved_run.Saved, encoder: Encoder, size: tuple[int, int], difference: float
) -> dict[str, Any]:
    """What a user of the file needs to know, as JSON holds it; weight_file.OF_CARD is what we read again."""
    seen = _pixels(saved)
    range_of = "value_range of more than 8 bits becomes " if "value_range" in seen else ""
    fields = [field.name for field in dataclasses.fields(encoder) if field.name not in NOT_SHAPE]
    started = environment.record(saved.config.seed)
    epsilon = (vit if isinstance(encoder, vit.ViT) else swin).LAYER_NORM_EPSILON
    return {
        "file": file.name,
        "sha256": weight_file.sha256(file),
        "framework": saved.framework,
        "branch": saved.network,
        "step": saved.step,
        "encoder": {
            "name": saved.config.encoder.name,
            **{name: getattr(encoder, name) for name in fields},
            **({"pyramid_levels": encoder.pyramid_levels} if isinstance(encoder, vit.ViT) else {}),
            "layer_norm_epsilon": epsilon,
        },
        "preprocessing": {
            "pixels": f"{range_of}0..1, then (pixels - mean) / std, per channel",
            **seen,
            "channels": encoder.channels,
            "image_size": list(size),
            "test_crop": saved.config.data.get("test_crop", 1.0),  # whole images where they are not cropped
            "interpolation": INTERPOLATION,
        },
        "parity": {"images": IMAGES, "largest_relative_difference": difference},
        "data": saved.record["data"],
        "config": saved.record["config"],
        **{key: started[key] for key in ("time", "command", "python", "versions", "commit")},
    }


def _pixels(saved: saved_run.Saved) -> dict[str, Any]:
    """Mean, deviation and, of images of more than 8 bits, the range of values, a pair a channel or one for all, that
    the run trained with; of one before they were recorded, what its config says."""
    usual = methods.IMAGENET if saved.config.data.channels == augmentation.RGB else {}
    stated = {key: saved.config.data[key] or usual.get(key) for key in methods.IMAGENET}
    stated |= {"value_range": [list(pair) for pair in augmentation.value_range(saved.config) or ()]}
    seen = {**stated, **saved.record.get("pixels", {})}
    return {key: value for key, value in seen.items() if key != "value_range" or value}


def _told(card: Mapping[str, Any], path: Path, encoder: Encoder) -> list[console.Row]:
    """The table at the end."""
    parity, pixels = card["parity"], card["preprocessing"]
    largest = f"{parity['largest_relative_difference']:.3g}"
    height, width = pixels["image_size"]
    return [
        ("encoder", encoders.describe(encoder)),
        ("from", f"{card['framework']}, {card['branch']}, step {card['step']:,}"),
        ("images", f"{height} x {width}, channels: {pixels['channels']}, mean {pixels['mean']}, std {pixels['std']}"),
        *([("", f"of 16 bits values {deep.in_words(known)}")] if (known := pixels.get("value_range")) else []),
        ("file", f"{path}, {console.size(run_files.bytes_of(path))}"),
        ("card", str(weight_file.card_of(path))),
        ("parity", f"{largest} is the largest relative difference of pooled features and tokens, read back"),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
