"""Draws what a person wants to see of a trained encoder, or of its input.

  python -m repre_jax.tools.figures KIND RUN               a pre-training run, its newest checkpoint
  python -m repre_jax.tools.figures KIND FILE              an export, or any file of weights that evaluations take
  python -m repre_jax.tools.figures attention RUN RUN      side by side
  python -m repre_jax.tools.figures augmentations --config configs/moco_vit_s.py:digits    and data, before a run

kinds:
  reconstructions  view, reconstruction, difference; of a run with a decoder
  attention        a ViT's class token by head, a Swin's rollout, and the patches that hold 60 % of it
  tsne             20 random classes of the test images on a plane; prints silhouette scores
  neighbours       the nearest training images of some test images
  pyramid          each pyramid level's features as colours
  augmentations    the first records of the first batch, as the network sees them
  data             training records as they are stored, with class, boxes, masks and label map, where these are known;
                   of any run, or of any --config: --config configs/segment.py, or configs/linear.py with its
                   --config.init_from=RUN
  segmentation     of a run of configs/segment.py: image, ground truth, prediction, errors, with a legend of classes
  confusion        of such a run, finished: which classes it takes for which
  detection        of a run of configs/detect.py: image, ground truth, detections with names and scores, mistakes
  precision        of such a run, finished: precision over recall, AP by class, how many mistakes of which kind
  all              every one of these that the encoder and the data allow

Images are test images, chosen at random by --seed, or those at the paths behind --images. The figure goes to
RUN/figures/KIND.png and KIND.pdf, of a file FILE to a folder beside it, FILE's name without its ending and with
-figures, unless --out names a file. The keys are those of configs/figures.py: --config.network=target,
--config.step=4000, --config.data.name=folder:photos, --config.figures.block=3 ...
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.report import page
from repre_jax.report.figures import sheet
from repre_jax.running import workdir
from repre_jax.system import command_line, shipped, terminal
from repre_jax.tasks.figures import augmentations
from repre_jax.tasks.figures.request import DENSE, DRAW, INPUT, OF_RUN, TASKS, Request

CONFIG = "configs/figures.py"
SUFFIXES = (".png", ".pdf")
EXPECTED = "  expected: the flags that --help names, or --config.KEY=VALUE with keys of configs/figures.py"
ELSEWHERE = "--out=FILE.png, in another folder; with one kind, not with all"
INPUTS = " and ".join(INPUT)
EXAMPLE = "python -m repre_jax.tools.figures attention runs/demo"


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("kind", choices=(*DRAW, *DENSE, "all"), metavar="KIND", help=argparse.SUPPRESS)
    parser.add_argument("of", nargs="*", type=config_paths.argument, metavar="RUN|FILE", help=argparse.SUPPRESS)
    parser.add_argument("--images", nargs="+", type=config_paths.local_argument, default=[], metavar="PATH")
    parser.add_argument("--out", type=config_paths.argument, help="one .png or .pdf, in place of both")
    parser.add_argument("--seed", type=int, help="of the choice of images and classes; default 0, or the config's")
    parser.add_argument("--records", type=int, help="how many images; default 6")
    parser.add_argument("--config", metavar="FILE", help=f"of a run to be, for {INPUTS}; else {CONFIG}")
    parser.add_argument("--quiet", action="store_true", help="leave out what is said on the way")
    arguments, rest = parser.parse_known_intermixed_args(argv)

    def run() -> None:
        arguments.out = arguments.out and config_paths.absolute(arguments.out)
        arguments.images = [config_paths.absolute(path) for path in arguments.images]
        _run(arguments, rest)
        if arguments.of and arguments.out is None:
            _renew_page(config_paths.absolute(arguments.of[0]))

    return command_line.exit_status(run, "Interrupted; what was not named was not drawn.", quiet=arguments.quiet)


def _run(arguments: argparse.Namespace, flags: Sequence[str]) -> None:
    config = _config(arguments, flags)
    _check_out(arguments, config.data.name)
    if arguments.kind in INPUT and config.task in TASKS[arguments.kind]:
        config.seed = config.seed if arguments.seed is None else arguments.seed
        records = 6 if arguments.records is None else arguments.records
        if config.task in OF_RUN:
            config = _with_data(config)
        with _writable(_paths(arguments, arguments.kind)):
            whose = f"{config.framework.name}, " if arguments.kind != "data" else ""
            figure = INPUT[arguments.kind](config, records, f"{whose}{config.data.name}")
            _save(figure, _paths(arguments, arguments.kind))
        return
    request = Request(config, [config_paths.absolute(path) for path in arguments.of], arguments.images, arguments.seed)
    with _writable(_paths(arguments, arguments.kind)):
        _draw(arguments, request)


def _with_data(config: ConfigDict) -> ConfigDict:
    """A config that says which data there are: itself, or that of the run whose encoder it judges, and whose data it
    takes over. Raises UserError where nothing says so."""
    if config.data.name is not None:
        return config
    if config.init_from is None:
        raise UserError(
            "data.name is not set: the config takes its data from the run that it judges.\n"
            "  change:   --config.init_from=RUN, or --config.data.name=NAME"
        )
    return augmentations.config_of(config_paths.absolute(config.init_from), config, config.seed, TASKS["data"])


def _draw(arguments: argparse.Namespace, request: Request) -> None:
    """Of runs or files: one kind, or all that can be drawn."""
    if arguments.kind != "all":
        _save(request.one(arguments.kind), _paths(arguments, arguments.kind))
        return
    drawn = 0
    for kind, outcome in request.every():
        if isinstance(outcome, UserError):
            print(f"Left out, {kind}: {outcome}")
        else:
            _save(outcome, _paths(arguments, kind))
            drawn += 1
    if not drawn:
        raise UserError("Nothing could be drawn.")


def _config(arguments: argparse.Namespace, flags: Sequence[str]) -> ConfigDict:
    """Of the figures; of pre-training where its input is drawn without a run."""
    alone = arguments.kind in INPUT and not arguments.of
    file = arguments.config or (None if alone else shipped.root() / CONFIG)  # whatever else is called configs here
    for flag in flags:
        name = flag.lstrip("-").split("=")[0]
        if flag.startswith("-") and not name.startswith("config."):
            hint = f"  change:   --config.{name}\n" if name in ("network", "step", "feature", "block") else ""
            if name == "workdir":
                hint = f"  change:   {ELSEWHERE.partition(',')[0]}\n"
            raise UserError(f"Unexpected argument {flag!r}.\n{hint.replace('block', 'figures.block')}{EXPECTED}")
    config, _ = command_line.parse(["figures", *([f"--config={file}"] if file else []), *flags])
    wanted = TASKS[arguments.kind] if alone else ("figures",)
    if config.get("task") not in wanted:
        raise UserError(
            f"The config's task is {config.get('task')!r}.\n  expected: {' or '.join(map(repr, wanted))}\n"
            f"  change:   {'--config to one of these' if alone else f'leave out --config, or RUN of {INPUTS}'}"
        )
    if not alone and not arguments.of:
        raise UserError(f"Which run, or file of weights?\n  expected: one, as in  {EXAMPLE}")
    if alone and arguments.images:
        raise UserError(f"{arguments.kind} draws training images.\n  change:   leave --images out")
    if arguments.records is not None and arguments.records < 1:
        raise UserError(f"--records is {arguments.records}.\n  expected: at least 1")
    if not alone:
        config.seed = config.seed if arguments.seed is None else arguments.seed
        config.figures.records = config.figures.records if arguments.records is None else arguments.records
    return config


def _check_out(arguments: argparse.Namespace, data_name: str | None) -> None:
    out = arguments.out
    if out is not None and (out.suffix not in SUFFIXES or run_files.is_folder(out)):
        raise UserError(f"--out is {out}.\n  expected: a file name ending in {' or '.join(SUFFIXES)}")
    if out is not None and arguments.kind == "all":
        raise UserError("--out names one file, and all is several.\n  change:   leave it out, or name one kind")
    for source in arguments.of:
        if not run_files.exists(config_paths.absolute(source)):
            raise UserError(f"{source} does not exist.\n  expected: the workdir of a run, or a file of weights")
    if out is not None and out.suffix == SUFFIXES[0] and not run_files.DRAWN.fullmatch(out.name):
        runs = [run_files.read_config(config_paths.absolute(source), ["data"]) or {} for source in arguments.of]
        for name in (data_name, *(run.get("data", {}).get("name") for run in runs)):
            _refuse_among_images(out, name)


def _refuse_among_images(out: Path, data_name: str | None) -> None:
    """Raises UserError where `out` would be an image of that folder; in a run's own folder it would not."""
    if not data_name or not data_name.startswith(config_paths.FOLDER):
        return
    images = config_paths.resolved(data_name.removeprefix(config_paths.FOLDER))
    folder = config_paths.resolved(out.parent)
    above = [each for each in (folder, *folder.parents) if each.is_relative_to(images)]
    if above and not any(run_files.is_run({path.name for path in run_files.matching(each, "*")}) for each in above):
        raise UserError(
            f"--out is {out}, in the folder of images {images}: it would be one of them.\n  change:   {ELSEWHERE}"
        )


def _paths(arguments: argparse.Namespace, kind: str) -> list[Path]:
    """Where the figure goes."""
    if arguments.out is not None:
        return [arguments.out]
    if not arguments.of:
        return [Path(kind + suffix) for suffix in SUFFIXES]
    first, *others = (config_paths.absolute(path) for path in arguments.of)
    beside = first.with_name(f"{first.stem}-{run_files.FIGURES}")
    folder = beside if run_files.is_file(first) else first / run_files.FIGURES
    names = (path.stem if run_files.is_file(path) else path.name for path in others)
    name = "-".join([kind, *(f"and-{each}" for each in names)])
    return [folder / (name + suffix) for suffix in SUFFIXES]


@contextlib.contextmanager
def _writable(paths: Sequence[Path]) -> Iterator[None]:
    """Raises UserError before anything is computed where the figures cannot be written. Their folder, and those above
    it, are made where they are not there, and removed where nothing is in them in the end."""
    folder = config_paths.absolute(paths[0]).parent
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run_files.made(folder))
            run_files.check_writable(folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be written to: {error.strerror}.\n  change:   {ELSEWHERE}") from None
        yield


def _renew_page(run: Path) -> None:
    """The page of a run, with the new figures; of one that goes on only while a process is at work in it."""
    if not run_files.has_checkpoints(run):
        return
    try:
        print(f"Report: {page.write(run, stopped=not workdir.is_locked(run))}", flush=True)
    except OSError as error:
        terminal.warn(f"Warning: {run / run_files.PAGE} cannot be written: {error.strerror}.")


def _save(figure: Figure, paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            sheet.save(figure, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.\n  change:   --out=FILE.png") from None
    print("Drawn: " + " and ".join([str(paths[0]), *(path.suffix for path in paths[1:])]), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
