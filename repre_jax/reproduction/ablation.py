"""Why RePre helps or does not, at MoCo v3 and a ViT: weights of the losses, decoder, views, length. Not the paper's."""

import dataclasses

from repre_jax.reproduction import measured
from repre_jax.reproduction.paper import VIT_S
from repre_jax.reproduction.runs import KEY, Run
from repre_jax.reproduction.scales import Scale
from repre_jax.reproduction.table import Row, Table

EPOCHS = 300  # at scales that know lengths
FIXED = (1, 5, 25)  # weights of the reconstruction; 1 / L, where long runs end, is 15 to 30 for an L1 of 0.03 to 0.07
SCALE = 20  # of the learning rate of learned weights


def table(scale: Scale) -> Table:
    without = "without RePre"
    rows = [
        _row(scale, without, "baseline"),
        _row(scale, "learned weights", "", other=0),
        _row(scale, f"learned, rate x {SCALE}", "", (f"weighting_lr_scale={SCALE}",), f"lr-scale-{SCALE}", other=0),
        *(
            _row(scale, f"fixed, 1 and {weight}", "", (f"fixed_weights=(1.0,{weight}.0)",), f"fixed-{weight}", other=0)
            for weight in FIXED
        ),
        _row(scale, "light decoder", "light", other=0),
        _row(scale, "both views", "both", other=0),
        _row(scale, f"{without}, twice as long", "baseline", twice=True),
        _row(scale, "learned weights, twice as long", "", twice=True, other=8),
    ]
    measures = (*measured.classification(scale), *measured.dense(scale))
    title = "Weights of the losses, decoder, views and length, MoCo v3, ViT-S"
    return Table("ablation", title, scale, ("RePre",), measures, tuple(rows))


def _row(
    scale: Scale,
    title: str,
    variant: str,
    settings: tuple[str, ...] = (),
    label: str = "",
    *,
    other: int | None = None,
    twice: bool = False,
) -> Row:
    """settings: of the group repre. other: the number of the row that it is compared with. twice: as long."""

    def trained(seed: int) -> Run:
        variants = ",".join(filter(None, (variant, scale.twice if twice else "")))
        run = scale.pretraining("moco_v3", VIT_S, 2 * EPOCHS if twice else EPOCHS, seed, variants, dense=False)
        flags = (f"{KEY}repre.{setting}" for setting in settings)
        return dataclasses.replace(run, flags=(*run.flags, *flags), label=label)

    return Row((title,), trained, without=other)
