"""The one table of the metrics: nothing that is logged is missing in it, and all who show metrics read it."""

import jax
import jax.numpy as jnp
import pytest

from repre_jax.frameworks import FRAMEWORKS
from repre_jax.report import metric_names, panels, results
from repre_jax.report.console import progress_line
from repre_jax.report.metric_names import METRICS, Metric
from repre_jax.report.run import read
from tests.helpers import expected, small_frameworks
from tests.helpers.logged import write
from tests.helpers.named import unnamed


def test_all_that_a_run_logs_is_in_the_table(finished):
    """tests/helpers/runs.py and evaluating.py look so at every run of the tests, of each task."""
    assert unnamed(finished[0]) == set()


def test_a_run_with_a_metric_beyond_the_table_is_found(tmp_path):
    assert unnamed(write(tmp_path, [{"step": 1, "loss": 1.0, "zebra": 2.0}])) == {"zebra"}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_all_that_a_framework_logs_is_in_the_table(name):
    framework = small_frameworks.framework(name)
    state = framework.init_framework_state(jax.random.PRNGKey(0))
    width = expected.PROTOTYPES if name == "dino" else expected.WIDTH
    online, target = (jnp.ones((expected.BATCH, views, width)) for views in (framework.online_views, 2))
    _, _, logged = jax.eval_shape(framework.loss, online, target, state, 0)
    assert logged.keys() <= METRICS.keys()


def test_metrics_of_one_panel_are_drawn_alike():
    for title, names in metric_names.panels().items():
        assert len({(METRICS[name].percent, METRICS[name].log) for name in names}) == 1, title
        assert all(METRICS[name].label for name in names)


def test_what_is_printed_has_a_format_and_a_place_of_its_own():
    printed = [metric for metric in METRICS.values() if metric.console]
    assert all(metric.console.count("{}") == 1 and metric.form for metric in printed)
    assert len({metric.place for metric in printed}) == len(printed)
    assert all(metric.form and metric.result and metric.best for metric in METRICS.values() if metric.judges)


def test_the_line_of_a_step_as_it_always_was():
    values = dict.fromkeys(METRICS, 0.25)
    assert progress_line(1, 2, values, batch_size=1) == (
        "step 1/2  loss 0.2500  objectness 0.2500  anchors 0.2500  classes 0.2500  boxes 0.2500  head 0.2500"
        "  masks 0.2500  contrastive 0.2500  reconstruction 0.2500  weights 0.25  0.25"
        "  lr 2.50e-01  decay 0.250  momentum 0.2500  teacher temperature 0.250  entropy 0.250  grad norm 0.25"
        "  emb std 0.2500  (1/sqrt(d) 0.2500)  0 images/s  waiting 25%  k-NN 25.0%  train top-1 25.0%"
        "  train pixels 25.0%  regions 25.0%  held-out top-1 25.0%  box AP 25.0%  AP50 25.0%  mask AP 25.0%  AP50 25.0%"
        "  top-1 25.0%  mIoU 25.0%  mAcc 25.0%  aAcc 25.0%"
        "  effective rank 0.2  0:04 left"
    )


def test_the_panels_as_they_always_were(tmp_path):
    names = [name for name in [*METRICS, "zebra", "apple"] if not any(name in s.metrics for s in FRAMEWORKS.values())]
    main, others = panels.of_run(read(write(tmp_path, [{"step": 1} | dict.fromkeys(names, 0.25)])))
    assert [panel.title for panel in main] == [
        "Loss",
        "Contrastive loss",
        "Reconstruction loss, L1",
        "Weights of the two losses",
        "k-NN top-1",
        "Effective rank of the features",
        "Top-1",
        "Segmentation",
        "Average precision",
        "Losses of the detector",
        "Learning rate",
        "Gradient norm",
        "Standard deviation of the embeddings",
        "Images per second",
        "Share of the time waiting for data",
    ]
    assert [panel.title for panel in others] == [
        "Accuracy of the training batch's regions",
        "Regions of an object, of those sampled of an image",
        "Momentum of the target",
        "Weight decay",
        "Temperature of the teacher",
        "Entropy of the teacher",
        "Skipped steps",
        "Skipped steps in a row",
        "First step of the last skipped row",
        "Unreadable records",
        "apple",
        "zebra",
    ]


def test_the_first_judge_that_was_measured_counts():
    assert metric_names.judges() == ["knn_top1", "effective_rank", "top1", "miou", "box_ap", "mask_ap"]
    assert metric_names.quality({"top1": 0.5, "effective_rank": 7.0, "loss": 1.0}) == 7.0
    assert metric_names.quality({"knn_top1": None, "top1": 0.5}) == 0.5
    assert metric_names.quality({"loss": 1.0}) is None


def test_a_new_task_needs_one_entry(tmp_path, monkeypatch):
    """Printed, drawn, among the results, and what the best checkpoint is chosen by."""
    new = Metric(
        "Pixels wrong", "Pixels wrong", "test", percent=True, form=".1%", console="wrong {}", place=210,
        result="Pixels wrong", best="smaller", judges=True,
    )  # fmt: skip
    monkeypatch.setitem(METRICS, "wrong", new)
    run = write(tmp_path, [{"step": 0, "wrong": 0.5}, {"step": 9, "wrong": 0.25}], result={"wrong_untrained": 0.75})
    assert progress_line(9, 9, {"wrong": 0.25}, batch_size=1) == "step 9/9  wrong 25.0%"
    assert [(panel.title, panel.percent) for panel in panels.of_run(read(run))[0]] == [("Pixels wrong", True)]
    assert results.Figure("Pixels wrong", "25.0%", "untrained encoder 75.0%") in results.summary(read(run))
    assert metric_names.quality({"wrong": 0.25}) == -0.25
