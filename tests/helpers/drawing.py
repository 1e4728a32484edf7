"""The figures tool as tests call it, and the runs that it draws."""

import jax

from repre_jax.tools import figures
from tests.helpers.saved import GREY, saved_run

FEW = ["--records=2", "--config.figures.per_class=4", "--config.figures.bank=48", "--config.batch_size=16"]
SPLIT = ["--config.data.test_split=test[:9]"]


def draw(*arguments):
    return figures.main([*map(str, arguments)])


def saved_runs(root):
    """The states, by name, of runs saved below `root`: a ViT's with RePre, one that decodes a single feature, one
    without a decoder, and a Swin's in grey."""
    return {
        "multi": saved_run(root / "multi", "dino_vit_s"),
        "single": saved_run(root / "single", "dino_vit_s", "--config.repre.single=True", *SPLIT, change=doubled),
        "baseline": saved_run(root / "baseline", "dino_vit_s", "--config.repre.enabled=False"),
        "swin": saved_run(root / "swin", "moby_swin_t", *GREY),
    }


def doubled(state):
    """Other attention than that of the same random numbers."""
    return jax.tree.map(lambda leaf: 2 * leaf, state)
