"""Writes detector.npz: a Mask R-CNN of torchvision's parts, from maps and objects to losses, gradients and detections.

  pip install torch==2.13.0 torchvision==0.28.0 && python tests/golden/detector.py

Only this program needs them. Layers, RoIAlign, suppression, overlaps, the coder and the choice of the level are
torchvision's. What torchvision does otherwise than mmdetection 2 is written down here: anchors, assignment, and what
losses are divided by. All anchors and regions that have a target are learnt from, so that no chance is in it.
"""

from pathlib import Path

import detector_inputs as inputs
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision import ops
from torchvision.models.detection import rpn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import LevelMapper

HERE = Path(__file__).resolve().parent
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
BACKGROUND, IGNORED = -1, -2


class Detector(nn.Module):
    """torchvision's layers; `names` are ours of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = [shape[0] for shape in inputs.SWIN]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.pyramid = ops.FeaturePyramidNetwork(widths, inputs.WIDTH, LastLevelMaxPool())
        self.anchor_head = rpn.RPNHead(inputs.WIDTH, 3)
        self.box_head = TwoMLPHead(inputs.WIDTH * 49, inputs.HIDDEN)
        self.boxes = FastRCNNPredictor(inputs.HIDDEN, inputs.CLASSES + 1)  # its last class is the background here
        self.mask_head = MaskRCNNHeads(inputs.WIDTH, (inputs.WIDTH,) * 4, 1)
        self.masks = MaskRCNNPredictor(inputs.WIDTH, inputs.WIDTH, inputs.CLASSES)

    def names(self) -> dict[str, str]:
        found = {
            "anchor_head.conv.0.0": "anchor_head/conv",
            "anchor_head.cls_logits": "anchor_head/objectness",
            "anchor_head.bbox_pred": "anchor_head/deltas",
            "box_head.fc6": "box_head/layer_1",
            "box_head.fc7": "box_head/layer_2",
            "boxes.cls_score": "box_head/classify",
            "boxes.bbox_pred": "box_head/deltas",
            "masks.conv5_mask": "mask_head/up",
            "masks.mask_fcn_logits": "mask_head/classify",
        }
        for number in range(4):
            found[f"norms.{number}"] = f"neck/norm_{number + 1}"
            found[f"pyramid.inner_blocks.{number}.0"] = f"neck/lateral_{number + 1}"
            found[f"pyramid.layer_blocks.{number}.0"] = f"neck/output_{number + 1}"
            found[f"mask_head.{number}.0"] = f"mask_head/conv_{number + 1}"
        split = (name.rpartition(".") for name in self.state_dict())
        return {f"{layer}.{kind}": f"{found[layer]}.{kind}" for layer, _, kind in split}

    def levels(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        normed = [norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in zip(self.norms, maps, strict=True)]
        return list(self.pyramid({str(number): x for number, x in enumerate(normed)}).values())

    def read(self, levels: list[torch.Tensor], image: int, boxes: torch.Tensor, side: int) -> torch.Tensor:
        """RoIAlign of one image, each box from its level."""
        chosen = LevelMapper(2, 5)([boxes])
        found = torch.zeros(len(boxes), inputs.WIDTH, side, side)
        for number, stride in enumerate(inputs.STRIDES):
            (at,) = torch.where(chosen == number)
            given = torch.cat([torch.full((len(at), 1), float(image)), boxes[at]], dim=1)
            read = ops.roi_align(levels[number], given, side, 1 / stride, sampling_ratio=0, aligned=True)
            found = found.index_copy(0, at, read)
        return found

    def of_regions(self, read: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, deltas = self.boxes(self.box_head(read))
        return logits, deltas.reshape(-1, inputs.CLASSES + 1, 4)[:, : inputs.CLASSES]

    def of_masks(self, read: torch.Tensor) -> torch.Tensor:
        return self.masks(self.mask_head(read))


def anchors(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    """mmdetection's: not rounded, on the corners of cells."""
    found = []
    for stride, level in zip((*inputs.STRIDES, 64), levels, strict=True):
        height, width = level.shape[2:]
        for y in range(height):
            for x in range(width):
                for ratio in (0.5, 1.0, 2.0):
                    w, h = 8 * stride / ratio**0.5, 8 * stride * ratio**0.5
                    found.append((x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2))
    sizes = [3 * level.shape[2] * level.shape[3] for level in levels]
    return list(torch.tensor(found).split(sizes))


def assigned(boxes: torch.Tensor, objects: torch.Tensor, high: float, low: float, least: float) -> torch.Tensor:
    """MaxIoUAssigner, box by box: an object's number, BACKGROUND or IGNORED."""
    if not len(objects):
        return torch.full((len(boxes),), BACKGROUND)
    overlaps = ops.box_iou(boxes, objects)
    found = torch.full((len(boxes),), IGNORED)
    for place, row in enumerate(overlaps):
        if row.max() < low:
            found[place] = BACKGROUND
        if row.max() >= high:
            found[place] = row.argmax()
    for number, column in enumerate(overlaps.T):
        if column.max() >= least:
            found[column == column.max()] = number
    return found


def proposals(logits: torch.Tensor, deltas: torch.Tensor, given: list[torch.Tensor]) -> torch.Tensor:
    """Of one image."""
    sizes = [len(each) for each in given]
    boxes, scores, groups = [], [], []
    for level, (said, moved, at) in enumerate(zip(logits.split(sizes), deltas.split(sizes), given, strict=True)):
        best, places = said.sigmoid().topk(min(inputs.PER_LEVEL, len(said)))
        boxes.append(ops.clip_boxes_to_image(CODER.decode_single(moved[places], at[places]), inputs.EXTENT))
        scores.append(best)
        groups.append(torch.full_like(places, level))
    kept = ops.batched_nms(torch.cat(boxes), torch.cat(scores), torch.cat(groups), 0.7)
    return torch.cat(boxes)[kept[: inputs.PROPOSALS]]


def train(model: Detector, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The five losses of two images."""
    levels = model.levels(given)
    logits, deltas = rpn.concat_box_prediction_layers(*model.anchor_head(levels))
    logits, deltas = logits.reshape(inputs.COUNT, -1), deltas.reshape(inputs.COUNT, -1, 4)
    at = anchors(levels)
    sums = dict.fromkeys(("objectness_loss", "anchor_box_loss", "class_loss", "box_loss", "mask_loss"), torch.zeros(()))
    anchors_used, regions_used, positives = 0, 0, 0
    bits, labels = torch.from_numpy(inputs.bitmaps()).float(), torch.from_numpy(inputs.LABELS)
    for image in range(inputs.COUNT):
        objects = torch.from_numpy(inputs.BOXES if image == 0 else inputs.BOXES[:0])
        found = assigned(torch.cat(at), objects, 0.7, 0.3, 0.3)
        some, positive = found != IGNORED, found >= 0
        said = logits[image][some]
        sums["objectness_loss"] = sums["objectness_loss"] + functional.binary_cross_entropy_with_logits(
            said, positive[some].float(), reduction="sum"
        )
        anchors_used += max(int(positive.sum()), 1) + max(int((some & ~positive).sum()), 1)
        if positive.any():
            wanted = CODER.encode_single(objects[found[positive]], torch.cat(at)[positive])
            distance = functional.l1_loss(deltas[image][positive], wanted, reduction="sum")
            sums["anchor_box_loss"] = sums["anchor_box_loss"] + distance

        with torch.no_grad():
            proposed = proposals(logits[image], deltas[image], at)
            found = assigned(proposed, objects, 0.5, 0.5, 0.5)
        regions = torch.cat([objects, proposed])
        found = torch.cat([torch.arange(len(objects)), found])
        positive = found >= 0
        said, moved = model.of_regions(model.read(levels, image, regions, 7))
        classes = torch.where(positive, labels[found.clamp(0)], inputs.CLASSES)
        sums["class_loss"] = sums["class_loss"] + functional.cross_entropy(said, classes, reduction="sum")
        regions_used += len(regions)
        if not positive.any():
            continue
        regions, found, classes, moved = (x[positive] for x in (regions, found, classes, moved))
        own = torch.arange(len(regions))
        wanted = BOX_CODER.encode_single(objects[found], regions)
        sums["box_loss"] = sums["box_loss"] + functional.l1_loss(moved[own, classes], wanted, reduction="sum")
        wanted = ops.roi_align(bits[:, None], torch.cat([found[:, None].float(), regions], 1), 28, 1.0, 0, True)[:, 0]
        assert (wanted - 0.5).abs().min() > 1e-4, "rounding would decide"
        said = model.of_masks(model.read(levels, image, regions, 14))[own, classes]
        loss = functional.binary_cross_entropy_with_logits(said, (wanted >= 0.5).float(), reduction="sum")
        sums["mask_loss"] = sums["mask_loss"] + loss / 28**2
        positives += len(regions)
    counts = (anchors_used, anchors_used, regions_used, regions_used, positives)
    losses = {name: total / count for (name, total), count in zip(sums.items(), counts, strict=True)}
    return losses | {"positive_regions": torch.tensor(positives / inputs.COUNT)}


@torch.no_grad()
def test(model: Detector, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is found in each image."""
    levels = model.levels(given)
    logits, deltas = rpn.concat_box_prediction_layers(*model.anchor_head(levels))
    logits, deltas = logits.reshape(inputs.COUNT, -1), deltas.reshape(inputs.COUNT, -1, 4)
    scale = torch.tensor([inputs.SCALE[1], inputs.SCALE[0]] * 2)
    found = {}
    for image in range(inputs.COUNT):
        proposed = proposals(logits[image], deltas[image], anchors(levels))
        said, moved = model.of_regions(model.read(levels, image, proposed, 7))
        scores = said.softmax(-1)[:, :-1]
        boxes, kept = [], []
        for number in range(inputs.CLASSES):
            decoded = BOX_CODER.decode_single(moved[:, number].contiguous(), proposed)
            boxes.append(ops.clip_boxes_to_image(decoded, inputs.EXTENT) / scale)
            (above,) = torch.where(scores[:, number] > inputs.SCORE)
            left = above[ops.nms(boxes[-1][above], scores[above, number], inputs.THRESHOLD)]
            kept += [(float(scores[place, number]), number, int(place)) for place in left]
        kept = sorted(kept, reverse=True)[: inputs.DETECTIONS]
        classes = torch.tensor([number for _, number, _ in kept])
        chosen = torch.stack([boxes[number][place] for _, number, place in kept])
        masks = model.of_masks(model.read(levels, image, chosen * scale, 14))[torch.arange(len(kept)), classes]
        found |= {f"boxes_{image}": chosen, f"classes_{image}": classes, f"masks_{image}": masks.sigmoid()}
        found[f"scores_{image}"] = torch.tensor([score for score, _, _ in kept])
    assert scores.numel() <= inputs.CANDIDATES
    return found


def main() -> None:
    model = Detector()
    names, given = model.names(), {}
    for name, x in model.state_dict().items():
        shape = tuple(x.shape)
        if name.startswith("boxes.bbox_pred"):  # the background has no deltas
            given[name] = torch.zeros(shape)
            shape = (4 * inputs.CLASSES, *shape[1:])
            given[name][: shape[0]] = torch.from_numpy(inputs.weight(names[name], shape))
        else:
            given[name] = torch.from_numpy(inputs.weight(names[name], shape))
    model.load_state_dict(given)
    read = [torch.from_numpy(x).requires_grad_() for x in inputs.maps()]
    losses = train(model, read)
    total = sum(loss for name, loss in losses.items() if name.endswith("_loss"))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(total, [*read, *parameters.values()])
    kept = losses | test(model, read)
    kept |= {f"gradient/map_{number}": x for number, x in enumerate(gradients[:4], start=1)}
    kept |= {f"gradient/{names[name]}": x for name, x in zip(parameters, gradients[4:], strict=True)}
    arrays = {name: x.detach().numpy() for name, x in kept.items()}
    for name in ("gradient/box_head/deltas.weight", "gradient/box_head/deltas.bias"):
        arrays[name] = arrays[name][: 4 * inputs.CLASSES]
    assert tuple(-(-side // 32) * 32 for side in inputs.EXTENT) == inputs.CANVAS
    np.savez_compressed(HERE / "detector.npz", **arrays)
    size = (HERE / "detector.npz").stat().st_size
    print(
        {name: float(x.detach()) for name, x in losses.items()},
        [len(arrays[f"scores_{image}"]) for image in range(inputs.COUNT)],
    )
    print(f"torch {torch.__version__}, {len(arrays)} arrays, {size:,} bytes")


if __name__ == "__main__":
    main()
