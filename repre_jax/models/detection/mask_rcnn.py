"""Mask R-CNN (He et al. 2017) with a feature pyramid: its parts put together, and what it finds in an image."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repre_jax.core.linen import apply
from repre_jax.models.detection import boxes, heads, necks
from repre_jax.models.detection.nms import nms
from repre_jax.models.detection.proposals import Proposals, propose
from repre_jax.models.detection.roi_align import roi_align
from repre_jax.models.encoders import Encoder
from repre_jax.models.feature_pyramid import Neck

Params = dict[str, Any]
BOX_SIDE, MASK_SIDE = 7, 14  # of the regions that the two heads read


@dataclass(frozen=True)
class Detecting:
    """What is found in a test: mmdetection's (SwinOD configs/_base_/models/mask_rcnn_swin_fpn.py:118-127).

    per_level, proposals, proposal_threshold: of propose. score: a detection must exceed it. threshold: the IoU above
    which a detection suppresses a worse one of its class. detections: at most so many an image.
    candidates: at most so many pairs of a region and a class are compared. It is where mmdetection has no limit: with
    more above `score` the worst are left out, and `overflow` says so.
    """

    per_level: int = 1000
    proposals: int = 1000
    proposal_threshold: float = 0.7
    score: float = 0.05
    threshold: float = 0.5
    detections: int = 100
    candidates: int = 5000


class Found(NamedTuple):
    """What was found in each of B images, by falling score; slots that are not valid stand at the end.

    boxes: float32 [B, n, 4], in pixels of the image as it was before it was resized. scores: float32 [B, n], above
    Detecting.score. classes: int32 [B, n]. valid: bool [B, n]. masks: float32 [B, n, 28, 28] in 0..1, each over its box
    and of its class, to be enlarged and then compared with one half; None of a detector of boxes.
    overflow: bool [B], whether there were more than Detecting.candidates.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    valid: jax.Array
    masks: jax.Array | None
    overflow: jax.Array


@dataclass(frozen=True)
class MaskRcnn:
    """An encoder, a neck and the heads; parameters are a dictionary with a tree for each. Images are a multiple of 32
    high and wide, normalised, 0 where a canvas is padding.

    The encoder's final LayerNorm is not used; its parameters stay as they are. On a map no larger than one window Swin
    does what it did in pre-training, with a smaller window and no shift, where mmdetection's pads and shifts: no map of
    an image of 800 pixels is that small.

    mask_head: None for Faster R-CNN, which finds boxes alone.
    """

    encoder: Encoder
    neck: Neck | necks.SimplePyramid
    anchor_head: heads.AnchorHead
    box_head: heads.BoxHead
    mask_head: heads.MaskHead | None

    @property
    def classes(self) -> int:
        """How many, the background aside, which is the class after the last."""
        return self.box_head.classes

    def init(self, encoder: Params, key: jax.Array) -> Params:
        """Fresh parameters of all but the encoder, whose own are given. key: uint32 [2]. To be jitted."""
        image = jnp.zeros((1, necks.STRIDES[-1], necks.STRIDES[-1], self.encoder.channels), jnp.float32)
        output = jax.eval_shape(lambda: apply(self.encoder, encoder, image))
        maps = [jnp.zeros(x.shape, x.dtype) for x in output.pyramid]
        neck, anchor, box, mask = jax.random.split(key, 4)
        found = {"encoder": encoder, "neck": self.neck.init(neck, maps)["params"]}
        width = self.neck.width
        found["anchor_head"] = self.anchor_head.init(anchor, [jnp.zeros((1, 1, 1, width))])["params"]
        found["box_head"] = self.box_head.init(box, jnp.zeros((1, BOX_SIDE, BOX_SIDE, width)))["params"]
        if self.mask_head is not None:
            found["mask_head"] = self.mask_head.init(mask, jnp.zeros((1, MASK_SIDE, MASK_SIDE, width)))["params"]
        return found

    def levels(self, params: Params, images: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, ...]:
        """The five maps of the pyramid [N, h, w, D], fine to coarse. images: [N, H, W, C]. With a key paths are
        dropped."""
        rngs = None if key is None else {"drop_path": key}
        output = apply(self.encoder, params["encoder"], images, train=key is not None, rngs=rngs)
        return necks.with_coarsest(apply(self.neck, params["neck"], output.pyramid))

    def of_anchors(self, params: Params, levels: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        """(Logits float32 [N, A], deltas float32 [N, A, 4]) of all anchors."""
        logits, deltas = apply(self.anchor_head, params["anchor_head"], levels)
        return logits, deltas

    def of_regions(
        self, params: Params, levels: tuple[jax.Array, ...], regions: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """(Logits float32 [N, R, classes + 1], deltas float32 [N, R, classes, 4]) of regions [N, R, 4]."""
        logits, deltas = apply(self.box_head, params["box_head"], _read(levels, regions, BOX_SIDE))
        return logits.reshape(*regions.shape[:2], -1), deltas.reshape(*regions.shape[:2], -1, 4)

    def of_masks(self, params: Params, levels: tuple[jax.Array, ...], regions: jax.Array) -> jax.Array:
        """Logits float32 [N, R, 28, 28, classes] of regions [N, R, 4]."""
        assert self.mask_head is not None
        logits = apply(self.mask_head, params["mask_head"], _read(levels, regions, MASK_SIDE))
        return logits.reshape(*regions.shape[:2], *logits.shape[1:])

    def detections(
        self, params: Params, images: jax.Array, extents: jax.Array, scale: jax.Array, settings: Detecting
    ) -> Found:
        """What it finds. images: [N, H, W, C], normalised; extents: int32 [N, 2], height and width of what is image;
        scale: float32 [N, 2], by how much height and width were multiplied when it was resized."""
        canvas = (images.shape[1], images.shape[2])
        levels = self.levels(params, images)

        def proposed(logits: jax.Array, deltas: jax.Array, extent: jax.Array) -> Proposals:
            numbers = (settings.per_level, settings.proposals, settings.proposal_threshold)
            return propose(logits, deltas, canvas, extent, *numbers)

        proposals = jax.vmap(proposed)(*self.of_anchors(params, levels), extents)
        said = self.of_regions(params, levels, proposals.boxes)
        found = jax.vmap(functools.partial(choose, settings))(*said, proposals, extents, scale)
        if self.mask_head is None:
            return found
        logits = self.of_masks(params, levels, found.boxes * factors(scale)[:, None])
        logits = jnp.take_along_axis(logits, found.classes[..., None, None, None], axis=-1)[..., 0]
        return found._replace(masks=jax.nn.sigmoid(logits))


def build(
    encoder: Encoder, classes: int, *, masks: bool = True, width: int = necks.WIDTH, hidden: int = heads.HIDDEN
) -> MaskRcnn:
    """For this encoder, in its dtype. width: channels of the pyramid and of the convolutions; hidden: of the box head.

    Raises UserError for an encoder whose maps do not fit (necks.build).
    """
    return MaskRcnn(
        encoder,
        necks.build(encoder, width),
        heads.AnchorHead(width, encoder.dtype),
        heads.BoxHead(classes, encoder.dtype, hidden),
        heads.MaskHead(classes, width, encoder.dtype) if masks else None,
    )


def factors(scale: jax.Array) -> jax.Array:
    """Height's and width's [..., 2] -> what coordinates of boxes are multiplied by, [..., 4]."""
    return jnp.concatenate([scale[..., ::-1], scale[..., ::-1]], axis=-1)


def choose(
    settings: Detecting,
    logits: jax.Array,
    deltas: jax.Array,
    proposals: Proposals,
    extent: jax.Array,
    scale: jax.Array,
) -> Found:
    """What is found in one image, without masks: logits [R, classes + 1], deltas [R, classes, 4].

    Each proposal may be found as several classes, by the box that it has as each. Boxes are clipped to the image and
    brought to its size before it was resized; then each class is suppressed by itself, without the shift of its
    coordinates that others keep classes apart by, which rounds them. A proposal that is empty on the upper edge, its
    lower side at 0, is one like any other; mmdetection 2.11 takes it for padding and gives each class the same score.
    """
    count, classes = deltas.shape[:2]
    scores = jax.nn.softmax(logits)[:, :-1] * proposals.valid[:, None]
    best, at = lax.top_k(scores.reshape(-1), min(settings.candidates, count * classes))
    region, category = jnp.divmod(at.astype(jnp.int32), classes)
    found = boxes.decode(proposals.boxes[region], deltas[region, category], boxes.BOX_HEAD)
    found = boxes.clip(found, extent) / factors(scale)
    kept = nms(found, best, best > settings.score, settings.threshold, category)
    scored, at = lax.top_k(jnp.where(kept, best, -1.0), min(settings.detections, len(best)))
    valid = scored >= 0
    return Found(
        boxes=jnp.where(valid[:, None], found[at], 0),
        scores=jnp.where(valid, scored, 0),
        classes=jnp.where(valid, category[at], 0),
        valid=valid,
        masks=None,
        overflow=(scores > settings.score).sum() > len(best),
    )


def _read(levels: tuple[jax.Array, ...], regions: jax.Array, side: int) -> jax.Array:
    """Regions [N, R, 4] of the pyramid as maps, [N * R, side, side, D]."""
    read = jax.vmap(lambda maps, regions: roi_align(maps, regions, side))(levels[: len(necks.STRIDES)], regions)
    return read.reshape(-1, *read.shape[2:])
