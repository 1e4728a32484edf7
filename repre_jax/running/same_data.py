"""Whether a run that goes on, or an evaluation that is finished, is of the data set that is there now.

data.json holds what the last start saw (described), so that a message can name the classes or shards that differ;
what is compared is the identity that a checkpoint, or result.json, was written with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from repre_jax.core.errors import UserError
from repre_jax.data import identity
from repre_jax.data.sources import DataSet
from repre_jax.running import resume
from repre_jax.running.resume import History

NOT_KNOWN = "whether its classes and files are still the same is not known; earlier versions did not write it down."


def described(dataset: DataSet) -> dict[str, Any]:
    """The identity, with what its digests are of, as JSON gives it back."""
    names = None if dataset.class_names is None else list(dataset.class_names)
    contents = {split: dict(parts) for split, parts in dataset.contents.items()}
    found: dict[str, Any] = {"identity": dataset.identity(), "class_names": names, "contents": contents}
    if (labels := dataset.label_classes) is not None:
        values = labels.values(np.arange(len(labels), dtype=np.uint8)).tolist()
        found |= {"class_colours": [list(colour) for colour in labels.colours], "class_values": values}
    if dataset.objects:
        found["objects"] = [{"id": identity, "name": name} for identity, name in dataset.objects.items()]
    return found


def check(
    past: History, dataset: DataSet, may_change: Sequence[str], fixed: Sequence[str] = (), monitors: bool = False
) -> list[str]:
    """What differs from the data that the run was trained on, a line each, as `may_change` allows ('data' for all).

    fixed: keys that cannot change once steps were trained, even if `may_change` names them. monitors: whether the run
    only measures itself by the test split, so that another one is no reason to refuse; see `monitored`.
    Raises UserError when something else differs. What an earlier version did not write down is not compared.
    """
    if past.data is None:
        return []
    before, now, explained = _compared(past.data, past.described, dataset)
    if monitors:
        judged = _of_test(before, now)
        before, now = ({key: some[key] for key in some if key not in judged} for some in (before, now))
    late = [key for key in before if before[key] != now[key] and f"data.{key}" in fixed]
    if past.step and late:
        part = {"data": {key: before[key] for key in late}}, {"data": {key: now[key] for key in late}}
        lines = "".join(f"  {line}\n" for line in resume.check_unchanged(*part, "data set", ("data",), explained))
        raise UserError(
            f"The {past.step:,} steps in this workdir were trained on other classes, and what the head gives is "
            f"theirs:\n{lines}"
            "  change:   the classes back, as the data set had them; or --workdir, to start a new one"
        )
    return resume.check_unchanged({"data": before}, {"data": now}, "data set", may_change, explained)


def monitored(past: History, dataset: DataSet) -> list[str]:
    """What differs from the data that the run has measured itself by so far, but not from what it was trained on, a
    line each."""
    if past.data is None:
        return []
    before, now, explained = _compared(past.data, past.described, dataset)
    old, new = ({key: some[key] for key in _of_test(before, now)} for some in (before, now))
    return resume.check_unchanged({"data": old}, {"data": new}, "data set", ("data",), explained)


def _of_test(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys of two identities that tell of the test split: its own, and, where the training data are the same, whether
    both have labels in common."""
    keys = ["test_records", "test_content"]
    train_is_same = before.get("train_content") is not None and before["train_content"] == now["train_content"]
    if train_is_same and None in (before.get("classes"), now.get("classes")):
        keys += ["classes", "class_names"]
    return [key for key in keys if key in before]


def note(past: History) -> str | None:
    """What to say of a run from before identities had digests."""
    if past.data is None or "train_content" in past.data:
        return None
    return f"Note: the data set's name, version and sizes are those of the steps so far; {NOT_KNOWN}"


def perhaps(past: History, dataset: DataSet, fixed: Sequence[str]) -> str:
    """What to add where a state does not fit, and it is not known how many classes it was trained on."""
    if "data.classes" not in fixed or "classes" in (past.data or {}):
        return ""
    return f"; or the classes back, if the data set had another number of them than the {dataset.classes} that it has"


def since_last_start(past: History, dataset: DataSet) -> list[str]:
    """What differs from the last start, a line each, where nothing was trained on it that would be compared."""
    before = past.described.get("identity")
    return [] if past.data is not None or not isinstance(before, dict) else _lines(before, past.described, dataset)


def of_finished(past: History, reopen: Callable[[], DataSet], kind: str) -> tuple[str, str]:
    """What to print above the summary of what is finished, where its data have changed since, and below, where that
    cannot be told; '' for nothing. kind: 'run' or 'evaluation'."""
    result = past.result or {}
    before = result.get("data_set")
    not_compared = "\nNot compared with the data set that is there now: "
    if before is None:
        return "", f"{not_compared}result.json does not say which it was."
    try:
        dataset = reopen()
    except (UserError, OSError, ValueError) as error:
        return "", f"{not_compared}{str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if result.get("labels", 1) < 1:  # a draw of the records, which are the same if the others are
        before = {key: value for key, value in before.items() if key != "train_records"}
    if lines := _lines(before, past.described, dataset):
        again = "  change:   --workdir to another folder, for a result of the data as they are now\n"
        changed = "".join(f"  {line}\n" for line in lines)
        return f"Warning: the data set has changed since this {kind} was finished:\n{changed}{again}", ""
    return "", "" if "train_content" in before else f"{not_compared}{NOT_KNOWN}"


def other_contents(run: Mapping[str, Any], dataset: DataSet) -> list[str]:
    """The keys of two identities that differ, among those of the contents. run: what a run's data.json holds; {} where
    there is none, which is compared with nothing."""
    before, now = run.get("identity") or {}, dataset.identity()
    keys = ("classes", "class_names", "train_content", "test_content")
    return [key for key in keys if key in before and key in now and before[key] != now[key]]


def _lines(before: Mapping[str, Any], known: Mapping[str, Any], dataset: DataSet) -> list[str]:
    old, new, explained = _compared(before, known, dataset)
    return resume.check_unchanged({"data": old}, {"data": new}, "data set", ("data",), explained)


def _compared(
    before: Mapping[str, Any], known: Mapping[str, Any], dataset: DataSet
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """The two identities, as far as both have the keys, and what is said in place of digests that differ.

    known: what data.json holds, which may be of another start.
    """
    now = dataset.identity()
    keys = [key for key in before if key in now]
    same = {key: value for key, value in before.items() if key != "train_records"}
    written = known.get("identity") or {}
    lines = identity.explained(known if same.items() <= written.items() else {}, described(dataset))
    explained = {f"data.{key}": line for key, line in lines.items()}
    for key in ("class_names", "train_content", "test_content"):
        explained.setdefault(f"data.{key}", "no longer those that were trained on or judged")
    return {key: before[key] for key in keys}, {key: now[key] for key in keys}, explained
