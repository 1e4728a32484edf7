"""What the measurements of detection count, and that they give the parts what these take: nothing is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import detection_cost, detection_inputs, detection_program, hlo, products

CANVAS = (64, 96)
TEXT = """HloModule jit_run, entry_computation_layout={(f32[10,10]{1,0})->f32[]}

%fused_computation (param_0.1: f32[10,10]) -> f32[10] {
  %param_0.1 = f32[10,10]{1,0} parameter(0)
  %wide = f32[10,10,1000]{2,1,0} broadcast(%param_0.1), dimensions={0,1}
  ROOT %small = f32[10]{0} reduce(%wide, %c), dimensions={1,2}, to_apply=%add
}

%body (p: (s32[], pred[50,100])) -> (s32[], pred[50,100]) {
  %p = (s32[], pred[50,100]{1,0}) parameter(0)
  %held = pred[50,100]{1,0} compare(%a, %b), direction=GT, metadata={op_name="jit(run)/nms/gt" stack_frame_id=3}
  ROOT %t = (s32[], pred[50,100]{1,0}) tuple(%i, %held)
}

ENTRY %main (x: f32[10,10]) -> f32[] {
  %x = f32[100,100]{1,0} parameter(0)
  %product = bf16[20,60]{1,0} dot(%x, %x), lhs_contracting_dims={1}, metadata={op_name="jit(run)/dot_general"}
  %fused = f32[10]{0} fusion(%x), kind=kLoop, calls=%fused_computation
  ROOT %loop = (s32[], pred[50,100]{1,0}) while(%start), condition=%cond, body=%body
}
"""


def test_all_that_a_program_computes_is_counted():
    """By hand, for n = 8: a product of 2 n^3, exponentials and sums of n^2, 16 n log2 n for sorting 16 rows of n, and
    loops as often as they run, those of unknown length as often as they are said to."""

    def run(x):
        y = jnp.exp(x @ x)
        y = jnp.broadcast_to(y.sum(axis=0), (16, 8))
        return jax.lax.top_k(y, 2)[0]

    def repeated(x):
        x, _ = jax.lax.scan(lambda carried, _: (jnp.sin(carried), None), x, length=5)
        return jax.lax.while_loop(lambda carried: carried[0, 0] < 1, jnp.cos, x)

    x = jax.ShapeDtypeStruct((8, 8), np.float32)
    assert products.flops(run, x) == 2 * 8**3 + 64 + 64 + 16 * 8 * 3
    assert products.macs(run, x) == 8**3
    assert products.flops(repeated, x, rounds=10) == 5 * 64 + 10 * (64 + 1)


def test_the_largest_array_is_what_is_written_as_a_whole():
    """Neither what a fused operation goes through nor what is given; within loops, too."""
    found = hlo.largest(TEXT)
    assert found == hlo.Array(5000, "pred[50,100]", "jit(run)/nms/gt")
    assert hlo.largest(TEXT.replace("pred[50,100]{1,0} compare", "pred[50]{0} compare")).kind == "bf16[20,60]"


def test_parts_are_given_what_they_take():
    """Random inputs have the shapes and types that the costs are counted of."""
    method = detection_program.build("swin_t", "float32")
    batch = detection_inputs.batch(1, CANVAS)
    given = detection_inputs.of_parts(method, CANVAS, batch)
    parts = [*detection_program.parts(method, CANVAS), detection_program.tested(method, CANVAS)]
    assert {part.name for part in parts if part.geometry} == given.keys()
    for part in parts:
        if part.geometry:
            shapes = jax.tree.map(lambda x: (x.shape, x.dtype), part.given)
            assert jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), given[part.name]) == shapes
    boxes = np.asarray(batch.boxes[0, : detection_inputs.OBJECTS])
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes <= [96, 64, 96, 64]).all()
    areas = np.unpackbits(np.asarray(batch.masks[0, : detection_inputs.OBJECTS]), axis=-1).sum(axis=(1, 2))
    np.testing.assert_allclose(areas, np.pi / 4 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), rtol=0.2, atol=8)


def test_shares_are_of_all_parts():
    """Of 300 FLOPs forward 30 are geometry, and of 720 of a step 60."""

    def cost(name, forward, step, geometry):
        return detection_cost.Cost(detection_program.Part(name, len, (), geometry=geometry), forward, step, None)

    found = [cost("backbone", 270e9, 660e9, False), cost("NMS", 30e9, 60e9, True)]
    *_, together, whole = detection_cost.rows(found)
    assert together[:5] == ("**geometry together**", "30.0", "10.0%", "60.0", "8.3%")
    assert whole[:4] == ("**all**", "300.0", "", "720.0")
    large = [("NMS", hlo.Array(400_000_000, "f32[100000000]", "iou"))]
    first, second = detection_cost.verdict(found, large, 1000)
    assert first == "Geometry: 10.0% of the forward pass; goal at most 10%: met."
    assert second == (
        "Largest array: 400 MB, f32[100000000] in NMS (iou); goal at most 300 MB: not met. "
        "A byte for each pair of the 1,000 anchors would be 1 MB."
    )


def test_geometry_is_a_tenth_of_the_work_at_full_size():
    """Of Swin-T at 800 x 1344, traced."""
    parts = detection_program.parts(detection_program.build("swin_t", "bfloat16"))
    forward = [(part.geometry, products.flops(part.run, *part.given, rounds=20)) for part in parts]
    share = sum(count for geometry, count in forward if geometry) / sum(count for _, count in forward)
    assert 0.01 < share < detection_cost.GOAL_SHARE


@pytest.mark.slow
def test_no_array_of_geometry_or_attention_is_large_at_full_size():
    """Nor [anchors, anchors], which would be some 70 GB, nor the weights of all heads of a ViT, which attends to the
    whole image. As it is compiled, with gradients."""
    method = detection_program.build("swin_t", "bfloat16")
    parts = [part for part in (*detection_program.parts(method), detection_program.tested(method)) if part.geometry]
    parts.append(detection_program.parts(detection_program.build("vit_s", "float32"))[0])
    sizes = {part.name: detection_cost.planned(part.with_gradient(), *part.given)[2].size for part in parts}
    assert len(sizes) == 8
    assert max(sizes.values()) < detection_cost.GOAL_BYTES, sizes
