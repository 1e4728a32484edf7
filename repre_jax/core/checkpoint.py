"""Checkpoints by orbax: the whole state, and beside it a JSON record (config, data identity, time spent).

  <directory>/40/                   written under another name, renamed when orbax has finished
  <directory>/40.manifest.json      written after that (core/manifest.py); before it is there, 40 does not count
  <directory>/40.damaged/           one that has none or does not fit it, set aside by the start that noticed

The only module that knows orbax.
"""

import contextlib
import dataclasses
import functools
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from repre_jax.core import (
    buckets,
    config_paths,
    manifest,
    open_files,
    orbax_messages,
    plain_paths,
    run_files,
    state_shapes,
)
from repre_jax.core.errors import UserError
from repre_jax.core.renamed_keys import with_new_names
from repre_jax.core.types import TrainState

DAMAGED = ".damaged"
CUT_SHORT = "its writing was cut short"
DRAFT = ".orbax-checkpoint-tmp"  # orbax's ending of what it has not finished
OLD_FIELD = "extra"  # of states saved by version 0.1.0, for what is now framework_state or batch_stats
SAID = 80  # letters of what a library says that a message quotes
SETTLING = 1.0  # seconds after a failure in which other threads of orbax fail too, not to do it while Python ends


@dataclass(frozen=True)
class Keep:
    """Which whole checkpoints stay: the `newest` ones, those of steps divisible by `every`, and with `best` the one
    with the largest measure."""

    newest: int = 2
    every: int | None = None
    best: bool = False

    def of(self, measures: dict[int, float | None]) -> set[int]:
        """The steps that stay, of step -> measure (None where nothing was measured)."""
        kept = set(sorted(measures)[-self.newest :])
        kept |= {step for step in measures if self.every and step % self.every == 0}
        measured = {step: value for step, value in measures.items() if value is not None}
        return kept | ({max(measured, key=lambda step: measured[step])} if self.best and measured else set())


@dataclass(frozen=True)
class Ignored:
    """A folder that is no whole checkpoint, and why."""

    folder: Path
    why: str

    @property
    def aside(self) -> Path | None:
        """Where it goes when a run starts; None for a draft, which is removed: in a bucket it is named as its step."""
        draft = DRAFT in self.folder.name or (buckets.holds(self.folder) and self.why == CUT_SHORT)
        return None if draft else self.folder.with_name(self.folder.name + DAMAGED)

    def __str__(self) -> str:
        return f"{self.folder.name}: {self.why}; {f'now {self.aside.name}' if self.aside else 'removed'}"


class Checkpoints:
    """The checkpoints of one run. Saving runs in the background; what went wrong there stands in `error`."""

    def __init__(self, directory: str | os.PathLike, keep: Keep = Keep()):
        orbax_messages.silence()
        # orbax accepts a relative path and then fails at the first save
        self.directory = config_paths.absolute(directory)
        self.keep = keep
        self.error: UserError | None = None
        self._background: threading.Thread | None = None
        self._last: int | None = None  # saved by this process, which may not see what process 0 has written yet
        self._unlink: weakref.finalize | None = None

    @functools.cached_property
    def _plain(self) -> Path:
        """The directory by the path that orbax is given. It globs below a path without escaping it, so that in
        'lr=[0.1]' it finds nothing to merge, and says nothing; tensorstore turns a backslash into a slash.

        Raises UserError where there is no such path.
        """
        if buckets.holds(self.directory):
            return self.directory
        try:
            path, unlink = plain_paths.plainly_named(self.directory)
        except OSError as error:
            raise UserError(
                f"Checkpoints cannot be kept below a path with one of {' '.join(sorted(plain_paths.UNFIT))} or bytes\n"
                f"that are no UTF-8, since no link to it can be made: {error}.\n"
                f"  given:    {str(self.directory)!r}\n"
                "  change:   --workdir to a path without these; or the variable TMPDIR, to a folder for the link"
            ) from None
        self._unlink = weakref.finalize(self, unlink)  # at the end of Python, too, where nobody calls close()
        return path

    def _at(self, step: int) -> Path:
        """The folder of a checkpoint as orbax is to be told of it."""
        return self._plain / str(step)

    @functools.cached_property
    def _orbax(self) -> ocp.AsyncCheckpointer:
        return ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler())
        )

    def measures(self) -> dict[int, float | None]:
        """Step -> measure of all finished checkpoints, oldest first; whether they are undamaged is not looked at."""
        steps = manifest.finished(self.directory)
        return {step: (manifest.read(self.directory / str(step)) or {}).get("measure") for step in steps}

    def latest_step(self) -> int | None:
        """The newest finished checkpoint, None when there is none."""
        return max(self.measures(), default=None)

    def newest_whole(self) -> tuple[int | None, list[Ignored]]:
        """The newest checkpoint whose every file is as it was written, and what is to be ignored on the way to it."""
        finished = self.measures()
        ignored = [
            Ignored(path, CUT_SHORT)
            for path in run_files.matching(self.directory, "*")
            if run_files.is_folder(path)
            and path.name.partition(DRAFT)[0].isdigit()
            and path.name not in map(str, finished)
        ]
        for step in reversed(finished):
            fault = self.fault(step)
            if fault is None:
                return step, ignored
            ignored.append(Ignored(self.directory / str(step), fault))
        return None, ignored

    def fault(self, step: int) -> str | None:
        """What is wrong with a finished checkpoint, None when it is whole: its files are those of the manifest, and all
        of its arrays are found in them. Versions before 0.2 wrote manifests of what orbax had not merged.

        Raises what keeps it from being looked at, such as too many open files: that is no fault of the checkpoint's.
        """
        folder = self.directory / str(step)
        written = (manifest.read(folder) or {}).get("step", step)
        if fault := manifest.fault(folder) or (None if written == step else f"it was written as checkpoint {written}"):
            return fault
        self._at(step)
        try:
            self._saved_shapes(step)
        except MemoryError:
            raise
        except Exception as error:  # orbax's and tensorstore's are of many kinds
            passing = isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, NotADirectoryError))
            if passing or open_files.are_used_up(error):
                raise
            buckets.check_answered(folder, error)
            said = orbax_messages.reason(error)[:SAID]
            return f"its arrays cannot be found, though its files are as they were written ({said})"
        return None

    def make_room(self, ignored: Sequence[Ignored]) -> None:
        """Removes drafts and sets aside what is damaged, in the place of what an earlier start has set aside.

        Raises UserError when the folder cannot be made or written, or orbax cannot be led to it.
        """
        try:
            run_files.make_folder(self.directory, parents=True)
            run_files.check_writable(self.directory)
        except OSError as error:
            raise UserError(
                f"{self.directory} cannot be written: {error.strerror or error}.\n"
                "  change:   mend that, or --workdir=..."
            ) from None
        self._at(0)
        if any(item.aside for item in ignored):
            for old in run_files.matching(self.directory, f"*{DAMAGED}"):
                run_files.remove_folder(old)
        for draft in run_files.matching(self.directory, f"*{manifest.SUFFIX}*{run_files.DRAFT}"):
            run_files.remove(draft)
        for item in ignored:
            if item.aside is None:
                run_files.remove_folder(item.folder)
            else:
                run_files.move(item.folder, item.aside)
            run_files.remove(manifest.path_of(item.folder), missing_ok=True)  # last: without it a bucket's is a draft

    def save(self, step: int, state: TrainState, record: dict[str, Any], measure: float | None = None) -> None:
        """Copies the state off the devices, then writes it in the background; a step saved before is kept.

        measure: of how good the state is, for Keep.best. After an error nothing is saved any more.
        """
        self.wait()
        if self.error:
            return
        if step == self._last or step in self.measures():
            if measure is not None and jax.process_index() == 0:
                self._amend(step, measure)
            return
        self._last = step
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))
        try:
            self._orbax.save(self._at(step), args=items)
        except Exception as error:
            self._failed(step, error)
            return
        self._background = threading.Thread(target=self._finish, args=(step, measure, state_shapes.flat(state)))
        self._background.start()

    def forget_measures(self) -> None:
        """For a run that measures itself by something else from here on: the best begins anew with its next measure,
        and those before stay only as long as they are among the newest, or by `every`."""
        for step, measure in self.measures().items():
            if measure is not None:
                self._amend(step, None)

    def _amend(self, step: int, measure: float | None) -> None:
        try:
            manifest.amend(self.directory / str(step), measure=measure)
        except OSError as error:
            self._failed(step, error)

    def record(self, step: int) -> dict[str, Any]:
        """The JSON record saved with `step`, the config's keys under their present names."""
        record = self._restore(step, record=ocp.args.JsonRestore()).record
        return record | ({"config": with_new_names(record["config"])} if "config" in record else {})

    def restore(self, step: int, shapes: TrainState, shardings: TrainState) -> TrainState:
        """The state at `step` laid out by `shardings`, whatever devices it was saved from.

        Raises UserError when it does not have these shapes.
        """
        if different := state_shapes.differences(self.shapes(step), shapes):
            raise UserError(
                f"Checkpoint {step} in {self.directory} does not fit this config. {different}"
                "  change:   the config back to the run's, or --workdir, to start a new one"
            )
        if OLD_FIELD in self._saved_shapes(step):
            return self._restore_old(step, shapes, shardings)
        return self._restore(step, state=ocp.args.StandardRestore(state_shapes.placed(shapes, shardings))).state

    def shapes(self, step: int) -> dict[str, Any]:
        """The saved state's tree, as dictionaries of objects with shape and dtype; no device is needed."""
        saved = self._saved_shapes(step)
        if OLD_FIELD not in saved:
            return saved
        old = saved[OLD_FIELD] or {}
        fields = {"framework_state": {}, "batch_stats": {}} | {_field_of_old(old): old}
        return {name: tree for name, tree in saved.items() if name != OLD_FIELD} | fields

    def _saved_shapes(self, step: int) -> dict[str, Any]:
        return ocp.PyTreeCheckpointHandler().metadata(self._at(step) / "state").tree

    def _restore_old(self, step: int, shapes: TrainState, shardings: TrainState) -> TrainState:
        """A state that was saved before framework_state and batch_stats had fields of their own."""
        field = _field_of_old(self._saved_shapes(step)[OLD_FIELD] or {})
        names = {"framework_state", "batch_stats"}
        trees = []
        for state in (shapes, shardings):
            kept = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name not in names}
            trees.append(kept | {OLD_FIELD: getattr(state, field)})
        restored = self.restore_part(step, *trees)
        old = restored.pop(OLD_FIELD)
        return TrainState(**restored, **({name: {} for name in names} | {field: old}))

    def restore_part(self, step: int, shapes: dict[str, Any], shardings: dict[str, Any]) -> dict[str, Any]:
        """Those tensors of the state at `step` that the two trees name."""
        like = state_shapes.placed(shapes, shardings)
        arguments = ocp.args.PyTreeRestore(
            item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like), partial_restore=True
        )
        return ocp.PyTreeCheckpointHandler().restore(self._at(step) / "state", args=arguments)

    def wait(self) -> None:
        """Until the checkpoint that is being written is on disk, or has failed."""
        if self._background is not None:
            self._background.join()
            self._background = None

    def close(self) -> None:
        """Waits until everything is on disk. Without it the last checkpoint may be lost."""
        self.wait()
        if self.error is not None:
            time.sleep(SETTLING)
        try:
            if "_orbax" in vars(self):
                self._orbax.close()
        except Exception:
            if self.error is None:
                raise  # else it is what `error` says, from another of its threads
        finally:
            vars(self).pop("_plain", None)
            if self._unlink is not None:
                self._unlink()

    def _restore(self, step: int, **items: Any) -> Any:
        return self._orbax.restore(self._at(step), args=ocp.args.Composite(**items))

    def _finish(self, step: int, measure: float | None, shapes: dict[str, tuple[int, ...]]) -> None:
        """In the background: waits for orbax, writes the manifest if all arrays, of these shapes, can be found again,
        and removes what need not stay."""
        try:
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                if state_shapes.flat(self._saved_shapes(step)) != shapes:
                    raise ValueError("it holds other arrays than were saved")
                manifest.write(self.directory / str(step), step=step, measure=measure)
                measures = self.measures()
                for old in measures.keys() - self.keep.of(measures):
                    self._remove(old)
        except Exception as error:
            self._failed(step, error)

    def _remove(self, step: int) -> None:
        """A draft, or without a manifest, from the first moment on: the next start removes what a kill leaves of it."""
        folder = self.directory / str(step)
        leaving = folder if buckets.holds(folder) else run_files.move(folder, self.directory / f"{step}{DRAFT}")
        run_files.remove(manifest.path_of(folder))
        run_files.remove_folder(leaving)

    def _failed(self, step: int, error: Exception) -> None:
        """Notes the error, and removes what was written of the step, which may be what filled the disk.

        Other threads of orbax may still be writing there; what they leave, the next start removes.
        """
        kept = "what was there before"
        with contextlib.suppress(OSError):  # as where no folder can be opened to be listed
            for folder in run_files.matching(self.directory, f"{step}{DRAFT}*"):
                run_files.remove_folder(folder, ignore_errors=True)
            newest = self.latest_step()
            kept = f"checkpoint {newest}; the same command goes on from there" if newest else "none"
        change = "  change:   mend that first, or for a full disk make room"
        if open_files.are_used_up(error):
            change = f"  limit:    {open_files.limit()}"
        self.error = UserError(
            f"Checkpoint {step} could not be written to {self.directory}: {orbax_messages.reason(error)}.\n"
            f"  kept:     {kept}\n"
            f"{change}"
        )


def _field_of_old(old: Mapping[str, Any]) -> str:
    """Where TrainState keeps today what OLD_FIELD held: a probe's running mean and variance, or a framework's state."""
    return "batch_stats" if set(old) == {"mean", "var"} else "framework_state"
