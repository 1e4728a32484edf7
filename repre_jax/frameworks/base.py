"""What a contrastive framework is to the training step: a record of heads and a loss, not a base class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from flax import linen as nn

from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan

FrameworkState = dict[str, jax.Array]
# The loss, float32, at least 0; the next step's framework_state; what to log.
LossResult = tuple[jax.Array, FrameworkState, dict[str, jax.Array]]
# (online [B, V + L, E], target [B, V, E] without gradient, or None where there is none, framework_state, finished
# steps) -> LossResult
ContrastiveLoss = Callable[[jax.Array, Any, FrameworkState, jax.Array], LossResult]
NARROW = 0.1  # embeddings count as collapsed if their standard deviation falls below this fraction of 1 / sqrt(width)


@dataclass(frozen=True)
class Collapse:
    """The loss of a network that cannot tell any two images apart, and the formula that gives it.

    tolerance: how near the loss must be to count as being there.
    remedies:  what helps this framework before anything that helps all.
    """

    value: float
    formula: str
    tolerance: float
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Framework:
    """A contrastive framework.

    projector:    maps pooled features [B, V, D] to [B, V, E], in the online and the target network.
    predictor:    maps the online projection on, [B, V, E] -> [B, V, E]; the target never has one.
    loss:         over the global batch; must never be negative (losses/weighting.py says why).
    target:       'ema', a moving average of encoder and projector; 'self', the online projection itself without its
                  gradient; 'none'.
    ema_lead:     the target's momentum is read at `step + ema_lead`: 0 if the source moves the target after the
                  optimiser's step, as is always done here; 1 if before its forward pass, which gives the same targets.
    online_views, target_views: the online network sees the first so many of the V views, the target the last so many.
    local_views:  whether the online network takes further, smaller views.
    init_framework_state: key -> what the framework keeps beside the parameters; see `loss`.
    in_microbatches: what it means that `loss` sees one microbatch at a time (config.accumulate), for the log.
    """

    projector: nn.Module
    loss: ContrastiveLoss
    collapse: Collapse
    predictor: nn.Module | None = None
    target: Literal["ema", "self", "none"] = "ema"
    ema_lead: int = 0
    online_views: int = 2
    target_views: int = 2
    local_views: bool = False
    init_framework_state: Callable[[jax.Array], FrameworkState] = lambda key: {}
    in_microbatches: str = "the loss sees one microbatch"


@dataclass(frozen=True)
class Spec:
    """All that a framework's name stands for: how to build it, and what configs, checks and reports need to know.

    title:     its name as people write it.
    build:     (plan, settings of config.framework as keywords, dtype) -> Framework.
    digits, tiny: config keys such as 'framework.out' and their values in the configs' variants of these names; those of
               digits are the variant scenes', too.
    ranges:    key of config.framework -> (smallest, largest) number that makes sense. The momentum's are the same for
               all (builders/config_checks.py), those of widths and queues are also `build`'s to check.
    evaluated: which network its authors evaluate, where a run or a file has both.
    metrics:   what its loss logs beside the loss itself: name -> title of the curve.
    """

    title: str
    build: Callable[..., Framework]
    digits: Mapping[str, Any]
    tiny: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    evaluated: Literal["online", "target"] = "online"
    metrics: Mapping[str, str] = field(default_factory=dict)


QUEUE_REMEDIES = (
    "--config.framework.momentum nearer to 1: the queue's keys must not be told apart by their age",
    "a shorter --config.framework.queue",
)


def check_widths(**widths: Any) -> None:
    """Raises UserError for a width below 1; None is left to the framework."""
    for name, width in widths.items():
        if width is not None and width < 1:
            raise UserError(f"framework.{name} is {width}.\n  expected: at least 1")


def check_queue(size: int, plan: Plan) -> None:
    """Raises UserError unless the keys that join the queue together divide it: else they would run over its end."""
    joining = plan.microbatch_size
    if size < joining or size % joining:
        nearest = max(1, round(size / joining)) * joining
        name = "batch_size" if joining == plan.batch_size else f"a microbatch of batch_size {plan.batch_size}, which is"
        raise UserError(
            f"framework.queue {size} is not a multiple of {name} {joining}.\n"
            f"  change:   --config.framework.queue={nearest}"
        )
