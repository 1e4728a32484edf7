"""Fine-tuning with labels, end to end (train/supervised.py has the step)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks, methods
from repre_jax.builders.attention import NOTHING
from repre_jax.core import optim, sharding
from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan
from repre_jax.core.types import TrainState
from repre_jax.data import photometric, randaugment
from repre_jax.data.mixing import Mixing
from repre_jax.data.sources import DataSet
from repre_jax.models.classifier import Classifier
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT
from repre_jax.pretrained import finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations, frozen, labelled
from repre_jax.report import console, evaluated
from repre_jax.running import loop, training_task
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.training import Training
from repre_jax.train.supervised import Supervised, layer_decay


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """running/training_task.run's."""
    source = finished.find(config, workdir, scratch=True)
    mesh = check(config, source)
    source, chosen = evaluations.with_attention(config, source, workdir, augmentation.image_size(config))
    return training_task.run(
        config,
        workdir,
        build=lambda _: build(config, source, mesh, chosen),
        summary=evaluated.finetuned,
        reopen=lambda: augmentation.open_dataset(config),
        weights=None if _from_scratch(config) else lambda: frozen.weights(source),
    )


def check(config: ConfigDict, source: Backbone) -> Mesh:
    """The devices. Raises UserError for what can be seen to be wrong without the data; names the feature."""
    mesh = evaluations.check(config)
    evaluations.check_name(config, "finetune.recipe", "configs/finetune.py")
    if config.data.channels != augmentation.RGB:
        config.finetune.randaugment = ""  # its colours are those of RGB
    if config.feature is not None:
        raise UserError("feature is for frozen encoders.\n  change:   --config.finetune.mean_then_norm")
    config.feature = "mean, then a norm" if config.finetune.mean_then_norm else "pooled"
    if config.finetune.mean_then_norm:
        _check_last_block(source.encoder)
    config_checks.microbatches(config.batch_size, config.accumulate)
    _randaugment(config)
    return mesh


def _check_last_block(encoder: Encoder) -> None:
    """Raises UserError where the pyramid does not end with a ViT's last block, whose tokens MAE's mean is of."""
    if not isinstance(encoder, ViT):
        raise UserError(
            "finetune.mean_then_norm is MAE's for ViT, and the encoder is a Swin.\n"
            "  change:   --config configs/finetune.py:swin, or :swin,scratch"
        )
    if encoder.pyramid_blocks[-1] != encoder.depth:
        raise UserError(
            f"finetune.mean_then_norm takes the tokens of the last block, {encoder.depth}, and encoder.pyramid_blocks "
            f"ends with {encoder.pyramid_blocks[-1]}.\n"
            "  change:   --config.finetune.mean_then_norm=False, or the blocks"
        )


def build(config: ConfigDict, source: Backbone, mesh: Mesh, chosen: Mapping[str, Any] = NOTHING) -> Training:
    """chosen: what the record of this start says of its attention.

    Raises UserError when the data is not there, or has no labels."""
    dataset = evaluations.open_data(config, source)
    classes, test = labelled.check(config, dataset)
    plan = methods.build_plan(config, records=len(dataset.train))
    method = method_of(config, source, classes, plan)
    key = np.asarray(jax.random.PRNGKey(config.seed))
    weights = source.untrained(mesh, config.seed) if _from_scratch(config) else source.load(mesh)
    sha256 = frozen.digest(weights)
    layout = sharding.of_state(jax.eval_shape(method.new_state, weights, key), mesh, split=False)
    new_state = jax.jit(method.new_state, out_shardings=layout)

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def count(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        pixels = photometric.normalize(images.astype(jnp.float32) / 255, method.mean, method.std)
        return (method.logits(params, pixels).argmax(axis=-1) == labels).sum()

    last: dict[int, tuple[np.ndarray, int]] = {}  # what was just measured, by its step

    def top1(state: TrainState, should_stop: ShouldStop) -> tuple[np.ndarray, int]:
        if (step := int(state.step)) not in last:
            records, batches = labelled.test_images(config, test, should_stop)
            correct = functools.partial(count, state.params)
            last.clear()
            last[step] = labelled.accuracy(batches, records, config.data.max_unreadable, mesh, correct)
        return last[step]

    def evaluate(state: TrainState, should_stop: ShouldStop) -> loop.Values:
        return {"top1": float(top1(state, should_stop)[0])}

    def conclude(state: TrainState, seconds: float, should_stop: ShouldStop) -> dict[str, Any]:
        accuracy, records = top1(state, should_stop)
        return {
            **evaluations.record(config, source, dataset),
            **evaluations.training_record(config, len(dataset.train)),
            "recipe": config.finetune.recipe,
            "weights_sha256": sha256,
            "steps": plan.total_steps,
            "seconds": seconds,
            "skipped_steps": int(state.skipped),
            "top1": float(accuracy),
            "test_images": records,
        }

    view = labelled.train_view(config, _randaugment(config))
    return Training(
        mesh=mesh,
        dataset=dataset,
        batches=functools.partial(
            training_task.image_batches, config, dataset.train, view, mesh, check=labelled.check_batch
        ),
        plan=plan,
        train_step=method.train_step,
        fresh=lambda: new_state(weights, key),
        state_sharding=layout,
        evaluate=evaluate,
        eval_steps=loop.BEFORE_TRAINING | loop.evenly(config.evaluations, plan.total_steps),
        conclude=conclude,
        pixels={"mean": method.mean, "std": method.std},
        description=_describe(config, source, dataset, plan, mesh),
        source={"origin": source.origin, **chosen},
        weights=sha256,
        fixed_keys=evaluations.FIXED_KEYS,
    )


def _from_scratch(config: ConfigDict) -> bool:
    """Whether it draws first weights by its own seed: a run's would be the same for every one."""
    return config.network == "untrained"


def method_of(config: ConfigDict, source: Backbone, classes: int, plan: Plan) -> Supervised:
    """The step. config: checked."""
    settings = config.finetune
    rules = (*config.optim.rules, *layer_decay(source.encoder, settings.layer_decay))
    chosen = {key: config.optim[key] for key in (*methods.OPTIMIZER_KEYS, "nesterov")}
    return Supervised(
        encoder=source.encoder,
        classifier=Classifier(classes, settings.mean_then_norm, settings.init_std),
        optimizer=optim.build(config.optim.name, plan, **chosen, rules=rules),
        rules=rules,
        lr=plan.lr,
        mixing=Mixing(settings.mixup_alpha, settings.cutmix_alpha, smoothing=settings.label_smoothing),
        erase_probability=settings.erase_probability,
        flip_probability=config.augment.flip_probability,
        mean=config.data.mean,
        std=config.data.std,
        accumulate=config.accumulate,
    )


def _randaugment(config: ConfigDict) -> randaugment.RandAugment | None:
    """Raises UserError for a text unheard of."""
    text, mean = config.finetune.randaugment, config.data.mean or methods.IMAGENET["mean"]
    if not text:
        return None
    return randaugment.parse(text, mean, config.augment.interpolation)


def _describe(config: ConfigDict, source: Backbone, dataset: DataSet, plan: Plan, mesh: Mesh) -> list[console.Row]:
    settings, optimizer = config.finetune, config.optim
    augmentations = [
        settings.randaugment,
        f"mixup {settings.mixup_alpha:g}" if settings.mixup_alpha else "",
        f"cutmix {settings.cutmix_alpha:g}" if settings.cutmix_alpha else "",
        f"erasing {settings.erase_probability:g}" if settings.erase_probability else "",
        f"label smoothing {settings.label_smoothing:g}" if settings.label_smoothing else "",
    ]
    return [
        *console.shares(plan, mesh.size, "images are mixed within one microbatch"),
        *evaluations.rows(config, source, dataset),
        (
            "recipe",
            f"{settings.recipe}, layer decay {settings.layer_decay:g}; trained on {len(dataset.train):,} images",
        ),
        *evaluated.deviations(evaluations.deviations(config)),
        ("augmentation", ", ".join(filter(None, ["random crops", *augmentations]))),
        *console.plan(
            plan, lr_per_256=optimizer.lr, optimizer=optimizer.name, shape=optimizer.schedule, momentum=False
        ),
    ]
