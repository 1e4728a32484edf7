"""The step of Mask R-CNN and its parts at full size, built from shapes alone: no config, data or weights."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.core import optim
from repre_jax.core.schedules import resolve
from repre_jax.core.types import ObjectImages, TrainState
from repre_jax.models import build_encoder
from repre_jax.models.detection import mask_rcnn, necks, targets
from repre_jax.models.detection.mask_targets import mask_targets
from repre_jax.models.detection.proposals import Proposals, propose
from repre_jax.models.detection.roi_align import roi_align
from repre_jax.train.detection import Detection

CLASSES, SLOTS = 80, 100  # COCO's
CANVAS = (800, 1344)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECORDS, BATCH = 117_266, 16  # of the recipe, which the rate depends on

Shape = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Part:
    """Of one image. run: a function of `given`, which are shapes. learns: a gradient passes, to its first `learns`
    arguments. geometry: no layer of the network, but what stands between them."""

    name: str
    run: Callable[..., Any]
    given: tuple[Any, ...]
    learns: int = 0
    geometry: bool = False

    def with_gradient(self) -> Callable[..., Any]:
        """The same and its gradient, if it has one, as a function of `given`."""
        if not self.learns:
            return self.run

        def run(*given: Any) -> Any:
            rest = given[self.learns :]
            result, pull = jax.vjp(lambda *learnt: self.run(*learnt, *rest), *given[: self.learns])
            return pull(result)  # no constant, of which XLA would know the gradient

        return run


def build(encoder: str, dtype: str, *, masks: bool = True, image_size: tuple[int, int] = CANVAS) -> Detection:
    """The step of the recipe: AdamW, drop path 0.1."""
    plan = resolve(records=RECORDS, batch_size=BATCH, epochs=12, lr_per_256=1e-4 * 256 / BATCH, weight_decay=0.05)
    sized: dict[str, Any] = {"image_size": image_size, "class_token": False} if encoder.startswith("vit") else {}
    built = build_encoder(encoder, drop_path=0.1, dtype=dtype, **sized)
    model = mask_rcnn.build(built, CLASSES, masks=masks)
    return Detection(model, optim.build("adamw", plan), (), plan.lr, MEAN, STD)


def by_attention(method: Detection, kind: str) -> Detection:
    """The same step by another kind of attention; products are counted of the one by XLA's."""
    model = dataclasses.replace(method.model, encoder=method.model.encoder.clone(attention=kind))
    return dataclasses.replace(method, model=model)


def init(method: Detection, canvas: tuple[int, int] = CANVAS) -> TrainState:
    """Step 0 of fresh weights. To be jitted."""
    key = jax.random.PRNGKey(0)
    encoder = method.model.encoder.init(key, jnp.zeros((1, *canvas, 3)))["params"]
    return method.new_state(encoder, key)


def batch(count: int, canvas: tuple[int, int] = CANVAS, slots: int = SLOTS, *, masks: bool = True) -> ObjectImages:
    """Shapes of `count` images."""
    height, width = canvas
    sizes = (height, -(-width // 8)) if masks else (0, 0)
    shapes: list[Any] = [
        Shape((count, *canvas, 3), np.uint8),
        Shape((count, 2), np.int32),
        Shape((count, slots, 4), np.float32),
        Shape((count, slots), np.int32),
        Shape((count, slots), np.bool_),
        Shape((count, slots, *sizes), np.uint8),
        Shape((count,), np.int32),
        Shape((count, 2), np.float32),
        Shape((count, 2), np.int32),
    ]
    return ObjectImages(*shapes)


def parts(method: Detection, canvas: tuple[int, int] = CANVAS, slots: int = SLOTS) -> list[Part]:
    """What a step does with one image, in its order; losses and the update are left out."""
    model, settings = method.model, method.sampling
    params = jax.eval_shape(lambda: init(method, canvas)).params
    image, key, extent = Shape((1, *canvas, 3), np.float32), Shape((2,), np.uint32), Shape((2,), np.int32)
    found = batch(1, canvas, slots)
    of_objects: list[Any] = [Shape(x.shape[1:], x.dtype) for x in (found.boxes, found.classes, found.valid)]
    objects = targets.Objects(*of_objects)
    output = jax.eval_shape(functools.partial(_encoded, model), params["encoder"], image)
    levels = jax.eval_shape(functools.partial(_necked, model), params["neck"], output)
    logits, deltas = jax.eval_shape(functools.partial(_anchors, model), params["anchor_head"], levels)
    of_image = Shape(logits.shape[1:], np.float32), Shape(deltas.shape[1:], np.float32)
    proposals = _proposals(settings.proposals)
    read = tuple(Shape(x.shape[1:], x.dtype) for x in levels[: len(necks.STRIDES)])
    dtype, width = levels[0].dtype, levels[0].shape[-1]

    def boxes(count: int) -> Shape:
        return Shape((count, 4), np.float32)

    def regions(count: int, side: int) -> Shape:
        return Shape((count, side, side, width), dtype)

    def assign_anchors(key: jax.Array, extent: jax.Array, objects: targets.Objects) -> Any:
        return targets.of_anchors(key, canvas, extent, objects, settings)

    def proposed(logits: jax.Array, deltas: jax.Array, extent: jax.Array) -> Any:
        return propose(logits, deltas, canvas, extent, settings.per_level, settings.proposals, settings.threshold)

    def assign_regions(key: jax.Array, proposals: Proposals, objects: targets.Objects) -> Any:
        return targets.of_regions(key, proposals, objects, model.classes, settings)

    def align(side: int) -> Callable[..., Any]:
        return lambda levels, boxes: roi_align(levels, boxes, side).astype(dtype)

    box_side, mask_side = mask_rcnn.BOX_SIDE, mask_rcnn.MASK_SIDE
    count, positives = settings.regions, settings.region_positives
    listed = [
        Part("backbone", functools.partial(_encoded, model), (params["encoder"], image), 1),
        Part("neck", functools.partial(_necked, model), (params["neck"], output), 2),
        Part("anchor head", functools.partial(_anchors, model), (params["anchor_head"], levels), 2),
        Part("anchors' targets", assign_anchors, (key, extent, objects), geometry=True),
        Part("proposals, NMS", proposed, (*of_image, extent), geometry=True),
        Part("regions' targets", assign_regions, (key, proposals, objects), geometry=True),
        Part("RoIAlign, boxes", align(box_side), (read, boxes(count)), 1, geometry=True),
        Part("box head", _head(model.box_head), (params["box_head"], regions(count, box_side)), 2),
    ]
    if model.mask_head is None:
        return listed
    packed, indices = Shape(found.masks.shape[1:], np.uint8), Shape((positives,), np.int32)
    return [
        *listed,
        Part("RoIAlign, masks", align(mask_side), (read, boxes(positives)), 1, geometry=True),
        Part("mask head", _head(model.mask_head), (params["mask_head"], regions(positives, mask_side)), 2),
        Part("mask targets", mask_targets, (packed, indices, boxes(positives), extent), geometry=True),
    ]


def tested(method: Detection, canvas: tuple[int, int] = CANVAS) -> Part:
    """The choice of detections among what the box head says of all proposals: the largest suppression of a test."""
    count, classes = method.testing.proposals, method.model.classes
    said = Shape((count, classes + 1), np.float32), Shape((count, classes, 4), np.float32)
    given = (*said, _proposals(count), Shape((2,), np.int32), Shape((2,), np.float32))
    return Part("detections of a test, NMS", functools.partial(mask_rcnn.choose, method.testing), given, geometry=True)


def _proposals(count: int) -> Any:
    shapes: list[Any] = [Shape((count, 4), np.float32), Shape((count,), np.float32), Shape((count,), np.bool_)]
    return Proposals(*shapes)


def _encoded(model: mask_rcnn.MaskRcnn, params: Any, images: jax.Array) -> Any:
    output: Any = model.encoder.apply({"params": params}, images)
    return tuple(output.pyramid)


def _necked(model: mask_rcnn.MaskRcnn, params: Any, maps: Any) -> tuple[jax.Array, ...]:
    found: Any = model.neck.apply({"params": params}, maps)
    return necks.with_coarsest(found)


def _anchors(model: mask_rcnn.MaskRcnn, params: Any, levels: Any) -> Any:
    return model.anchor_head.apply({"params": params}, levels)


def _head(head: Any) -> Callable[..., Any]:
    return lambda params, regions: head.apply({"params": params}, regions)
