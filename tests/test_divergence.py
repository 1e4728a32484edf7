"""Warnings of a collapse, and the end of a run whose steps are not finite."""

import pytest

from repre_jax.core.errors import UserError
from repre_jax.frameworks.base import Collapse
from repre_jax.running.divergence import REMEDIES, Watch
from tests.helpers.pretraining import CONFIGS, build

COLLAPSE = Collapse(6.65, "4 * temperature * ln(batch)", 0.02, remedies=("first of all this",))


def logged(loss, spread, **more):
    return {"contrastive": loss, "embedding_std": spread, "embedding_std_uniform": 0.1, **more}


def watch():
    return Watch(COLLAPSE, patience=3, stop_after=5)


def test_a_loss_that_stays_at_its_collapse_value_is_named_once():
    watching = watch()
    said = [watching.collapsed(logged(6.64, 0.09)) for _ in range(8)]
    assert [text is not None for text in said] == [False, False, True, False, False, False, False, False]
    assert "the contrastive loss is 6.6400, as if nothing could be told apart (4 * temperature * ln(batch))" in said[2]
    assert "standard deviation" not in said[2]
    places = [said[2].index(remedy) for remedy in ("first of all this", *REMEDIES)]
    assert places == sorted(places)


def test_embeddings_that_stay_narrow_are_named_and_named_again_after_a_recovery():
    watching = watch()
    spreads = [0.009, 0.009, 0.02, 0.009, 0.009, 0.009, 0.009, 0.05, 0.009, 0.009, 0.009]
    said = [watching.collapsed(logged(3.0, spread)) for spread in spreads]
    assert [text is not None for text in said] == [False] * 5 + [True] + [False] * 4 + [True]
    assert "the embeddings' standard deviation is 0.0090, against 0.1000" in said[5]
    assert "contrastive loss is" not in said[5]


def test_a_run_that_learns_hears_nothing():
    watching = watch()
    assert not any(watching.collapsed(logged(loss, 0.08)) for loss in (6.65, 6.66, 6.5, 6.65, 6.4, 6.2, 5.0, 4.0))
    assert watching.collapsed({"knn_top1": 0.5}) is None


def test_skipped_steps_are_told_and_end_the_run_when_there_are_too_many():
    watching = Watch(COLLAPSE, patience=3, stop_after=5, skipped=2)

    def told(step, skipped, row, first):
        values = {"skipped": skipped, "skipped_in_a_row": row, "first_bad_step": first}
        return watching.skipped(step, values, last=step == 30, saved=lambda: 15)

    assert told(10, 2.0, 0.0, 4.0) is None, "they were told of before this start"
    assert "loss or gradient not finite, steps skipped: 3; the last of them from step 12 on." in told(14, 5, 0, 12)
    assert told(16, 5.0, 0.0, 12.0) is None
    assert "steps skipped: 4" in told(20, 9.0, 4.0, 17.0)
    with pytest.raises(
        UserError, match=r"not finite from step 17 to 21, in a row: 5.\n  kept: +checkpoint 15, from befo"
    ):
        told(21, 10.0, 5.0, 17.0)
    with pytest.raises(UserError, match="not finite from step 30 to 30, in a row: 1"):
        told(30, 11.0, 1.0, 30.0)
    assert "steps skipped: 1" in told(30, 12.0, 0.0, 28.0)
    with pytest.raises(UserError, match=r"kept: +nothing: no checkpoint was due before that"):
        watching.skipped(9, {"skipped": 99, "skipped_in_a_row": 9, "first_bad_step": 1}, last=False, saved=lambda: None)
    assert watching.skipped(21, {"knn_top1": 0.5}, last=False, saved=lambda: None) is None


@pytest.mark.parametrize("framework", CONFIGS)
def test_the_tolerance_is_far_smaller_than_the_collapse_value(framework):
    _, method = build("tiny", framework)
    collapse = method.framework.collapse
    assert 0 < collapse.tolerance <= 0.02
    assert collapse.value == 0 or collapse.tolerance / collapse.value < 0.01
