"""A whole detector against one of torchvision's parts (tests/golden/detector.py): what it learns, and what it finds."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from repre_jax.core import optim, schedules
from repre_jax.core.types import ObjectImages
from repre_jax.models import build_encoder
from repre_jax.models.detection import mask_rcnn, necks, targets
from repre_jax.models.detection.mask_rcnn import Detecting
from repre_jax.train.detection import Detection
from tests.golden import detector_inputs as inputs
from tests.helpers import torch_layout

GOLDEN = np.load(Path(__file__).parent / "golden" / "detector.npz")
NAMES = {"kernel": "weight", "scale": "weight"}
OBJECTS = len(inputs.BOXES)


class OfMaps(mask_rcnn.MaskRcnn):
    """Its encoder's maps stand among the parameters."""

    def levels(self, params, images, key=None):
        return necks.with_coarsest(self.neck.apply({"params": params["neck"]}, params["maps"]))


def method():
    """Whose samples are all anchors and all regions."""
    encoder = build_encoder("swin_t", width=6, depth=(1,) * 4, heads=(1,) * 4)
    plan = schedules.resolve(records=2, batch_size=2, epochs=1, lr_per_256=0.1)
    model = mask_rcnn.build(encoder, inputs.CLASSES, width=inputs.WIDTH, hidden=inputs.HIDDEN)
    few = {"per_level": inputs.PER_LEVEL, "proposals": inputs.PROPOSALS}
    regions = inputs.PROPOSALS + OBJECTS
    return Detection(
        OfMaps(**vars(model)),
        optim.build("sgd", plan, momentum=0.9),
        (),
        plan.lr,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        sampling=targets.Sampling(2000, 1000, regions=regions, region_positives=regions, **few),
        testing=Detecting(
            **few,
            score=inputs.SCORE,
            threshold=inputs.THRESHOLD,
            detections=inputs.DETECTIONS,
            candidates=inputs.CANDIDATES,
        ),
    )


def name_there(path):
    """('box_head', 'deltas', 'kernel') -> 'box_head/deltas.weight'."""
    return f"{path[0]}/{'.'.join((*path[1:-1], NAMES.get(path[-1], path[-1])))}"


def parameters(method):
    """The values that PyTorch's side has, and the maps."""
    image = jnp.zeros((1, *inputs.CANVAS, 3))

    def fresh():
        encoder = method.model.encoder.init(jax.random.key(0), image)["params"]
        return method.model.init(encoder, jax.random.PRNGKey(0))

    found = {}
    for path, leaf in flatten_dict(jax.eval_shape(fresh)).items():
        if path[0] != "encoder":
            there = inputs.weight(name_there(path), torch_layout.shape_there(path, leaf.shape))
            found[path] = torch_layout.ours(path, there, leaf.shape)
    return unflatten_dict(found) | {"maps": [np.moveaxis(x, 1, -1) for x in inputs.maps()]}


def views():
    """The first image has the objects."""
    count, slots = inputs.COUNT, OBJECTS + 1
    boxes, classes = np.zeros((count, slots, 4), np.float32), np.zeros((count, slots), np.int32)
    valid, masks = np.zeros((count, slots), bool), np.zeros((count, slots, *inputs.CANVAS), bool)
    boxes[0, :OBJECTS], classes[0, :OBJECTS], valid[0, :OBJECTS] = inputs.BOXES, inputs.LABELS, True
    masks[0, :OBJECTS] = inputs.bitmaps()
    return ObjectImages(
        images=np.zeros((count, *inputs.CANVAS, 3), np.uint8),
        extents=np.full((count, 2), inputs.EXTENT, np.int32),
        boxes=boxes,
        classes=classes,
        valid=valid,
        masks=np.packbits(masks, axis=-1),
        records=np.arange(count, dtype=np.int32),
        scale=np.full((count, 2), inputs.SCALE, np.float32),
        sizes=np.full((count, 2), inputs.EXTENT, np.int32),
    )


@pytest.fixture(scope="module")
def ours():
    """(Metrics, gradients, what is found) of the same values, in one program."""
    step, given = method(), views()
    keys = np.zeros((inputs.COUNT, 2, 2), np.uint32)

    @jax.jit
    def run(params):
        (_, metrics), gradients = jax.value_and_grad(
            lambda params: step._losses(params, given, given.images, keys, keys[0, 0]), has_aux=True
        )(params)
        return metrics, gradients, step.detections(params, given)

    return jax.device_get(run(parameters(step)))


def test_the_losses_are_those_of_torchvisions_parts(ours):
    """To rounding: of anchors, regions and masks of both images."""
    for name in (*(name for name in ours[0] if name.endswith("_loss")), "positive_regions"):
        assert float(ours[0][name]) == pytest.approx(float(GOLDEN[name]), rel=1e-4), name
    assert float(GOLDEN["positive_regions"]) > OBJECTS / 2, "proposals, too"


def test_the_gradients_are_those_of_torchvisions_parts(ours):
    """By each parameter and by the maps that an encoder gives."""
    gradients = dict(ours[1])
    found = {f"map_{number}": x for number, x in enumerate(gradients.pop("maps"), start=1)}
    wanted = {name: np.moveaxis(GOLDEN[f"gradient/{name}"], 1, -1) for name in found}
    for path, x in flatten_dict(gradients).items():
        name = name_there(path)
        found[name], wanted[name] = x, torch_layout.ours(path, GOLDEN[f"gradient/{name}"], x.shape)
    assert {f"gradient/{name}" for name in found} == {name for name in GOLDEN if name.startswith("gradient/")}
    for name, x in found.items():
        largest = np.abs(wanted[name]).max()
        assert largest > 0, name
        np.testing.assert_allclose(x, wanted[name], rtol=1e-3, atol=1e-4 * largest, err_msg=name)


def test_the_detections_are_those_of_torchvisions_parts(ours):
    """Boxes of the stored images, and masks of their own classes."""
    found = ours[2]
    assert found.valid.all() and not found.overflow.any()
    for image in range(inputs.COUNT):
        np.testing.assert_array_equal(found.classes[image], GOLDEN[f"classes_{image}"])
        for name, tolerance in (("scores", 1e-4), ("boxes", 1e-3), ("masks", 1e-4)):
            mine, wanted = getattr(found, name)[image], GOLDEN[f"{name}_{image}"]
            np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=tolerance, err_msg=name)
