"""What a run's decoder rebuilds of images."""

from typing import Any

import jax
from matplotlib.figure import Figure

from repre_jax.builders import methods
from repre_jax.core.linen import apply
from repre_jax.models import decoder
from repre_jax.pretrained import saved_run
from repre_jax.report.figures import reconstructions
from repre_jax.tasks.figures.subject import NotPossible, Subject


def draw(subject: Subject, network: str | None) -> Figure:
    """Of the online encoder, whose features the decoder was trained on. network: what the user asked for.

    Raises NotPossible for a file of weights, a run without a decoder, and another network.
    """
    if not subject.is_run:
        raise NotPossible(
            f"{subject.source} holds an encoder and no decoder: exports and published files leave it out.\n"
            "  expected: the workdir of a pre-training run, whose checkpoints have it"
        )
    trained = subject.found.trained
    if trained is None or not trained.repre.enabled:
        raise NotPossible(
            f"The run {subject.source} has no decoder: repre.enabled was False, as in the variant baseline.\n"
            "  expected: a run with RePre"
        )
    if network not in (None, "online"):
        raise NotPossible(
            f"network is {network!r}, and the decoder was trained on the features of the online encoder.\n"
            "  change:   leave network out"
        )
    saved = saved_run.saved(subject.source, "online", subject.config.step)
    module = decoder.build(subject.encoder, **{key: trained.repre[key] for key in methods.DECODER_KEYS})
    params = {"encoder": saved.load(subject.mesh), "decoder": saved.load(subject.mesh, "decoder")}

    @jax.jit
    def rebuild(params: dict[str, Any], images: jax.Array) -> jax.Array:
        output = apply(subject.encoder, params["encoder"], subject.normalised(images))
        return apply(module, params["decoder"], output.pyramid)

    shown = subject.shown
    rebuilt = subject.finite(jax.device_get(rebuild(params, shown.images)))
    features = "the last feature alone" if trained.repre.single else "all pyramid levels"
    whose = f"{subject.name}: {saved.framework}, online, step {saved.step:,}"
    return reconstructions.draw(shown.pixels, rebuilt, title=f"Reconstructions from {features}\n{whose}")
