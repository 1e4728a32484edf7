"""What benchmarks/kernels.py reads from the text of a program that XLA has compiled for a GPU or a TPU."""

import pytest

from benchmarks import absent_gpu, absent_tpu, collectives, deviceless, kernels
from repre_jax.core.errors import UserError

TEXT = """HloModule jit_step, entry_computation_layout={(f32[8,4]{1,0})->f32[]}

%of_slice (p0: f32[8,4], p1: f32[2,4]) -> f32[2,4] {
  %p0 = f32[8,4]{1,0} parameter(0)
  %p1 = f32[2,4]{1,0} parameter(1)
  %view = f32[8,4]{1,0} bitcast(%p0)
  %squared = f32[8,4]{1,0} multiply(%view, %view)
  %part = f32[2,4]{1,0} slice(%squared), slice={[0:2], [0:4]}
  ROOT %sum = f32[2,4]{1,0} add(%part, %p1)
}

%in_place (whole: bf16[16,4], new: bf16[1,4], at: s32[]) -> bf16[16,4] {
  %whole = bf16[16,4]{1,0} parameter(0)
  %new = bf16[1,4]{1,0} parameter(1)
  %at = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %written = bf16[16,4]{1,0} dynamic-update-slice(%whole, %new, %at, %zero)
}

%triton (a: bf16[16,32], b: bf16[32,8]) -> f32[16,8] {
  %a = bf16[16,32]{1,0} parameter(0)
  %b = bf16[32,8]{1,0} parameter(1)
  ROOT %dot = f32[16,8]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (state: (s32[], f32[2,4])) -> (s32[], f32[2,4]) {
  %state = (s32[], f32[2,4]{1,0}) parameter(0)
  %count = s32[] get-tuple-element(%state), index=0
  %rows = f32[2,4]{1,0} get-tuple-element(%state), index=1
  %twice = f32[2,4]{1,0} multiply(%rows, %rows), metadata={op_name="jit(step)/jvp(online)/ViT/block_3/mul"}
  ROOT %out = (s32[], f32[2,4]{1,0}) tuple(%count, %twice)
}

%done (state: (s32[], f32[2,4])) -> pred[] {
  %state = (s32[], f32[2,4]{1,0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: f32[8,4], y: f32[2,4], w: bf16[16,4], v: bf16[1,4]) -> f32[] {
  %x = f32[8,4]{1,0} parameter(0)
  %y = f32[2,4]{1,0} parameter(1)
  %w = bf16[16,4]{1,0} parameter(2)
  %v = bf16[1,4]{1,0} parameter(3)
  %l = bf16[16,32]{1,0} parameter(4)
  %r = bf16[32,8]{1,0} parameter(5)
  %i = s32[] constant(3)
  %slices = f32[2,4]{1,0} fusion(%x, %y), kind=kLoop, calls=%of_slice, metadata={op_name="jit(step)/target/add"}
  %updates = bf16[16,4]{1,0} fusion(%w, %v, %i), kind=kLoop, calls=%in_place, metadata={op_name="jit(step)/update/set"}
  %gemm = f32[16,8]{1,0} fusion(%l, %r), kind=kCustom, calls=%triton, metadata={op_name="jit(step)/transpose(jvp(online))/ViT/block_7/dot"}
  %blas = (f32[8,2]{1,0}, s8[64]{0}) custom-call(%x, %y), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %begin = (s32[], f32[2,4]{1,0}) tuple(%i, %slices)
  %loop = (s32[], f32[2,4]{1,0}) while(%begin), condition=%done, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %copied = f32[2,4]{1,0} copy(%slices)
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def found():
    return {each.name: each for each in kernels.Program(TEXT).kernels()}


def test_each_kernel_is_counted_as_often_as_it_runs(found):
    assert {name: each.times for name, each in found.items()} == {
        "slices": 1, "updates": 1, "gemm": 1, "blas": 1, "twice": 5, "copied": 1,
    }  # fmt: skip
    assert kernels.totals(list(found.values()))[0] == 10


def test_bytes_are_those_that_a_kernel_touches(found):
    """float32 rows of four: of a sliced array the slice, of an update in place what is new."""
    assert (found["slices"].read, found["slices"].written) == (2 * 32, 32)
    assert (found["updates"].read, found["updates"].written) == (8 + 4, 8)
    assert (found["gemm"].read, found["gemm"].written) == (2 * (16 * 32 + 32 * 8), 4 * 16 * 8)
    assert (found["twice"].read, found["twice"].written) == (64, 32)
    assert (found["blas"].read, found["blas"].written) == (128 + 32, 8 * 2 * 4)  # and not 64 of workspace
    assert kernels.totals([found["twice"]]) == (5, 5 * 96, 0)


def test_flops_are_those_of_products(found):
    assert (found["gemm"].flops, found["gemm"].float32_flops) == (2 * 16 * 32 * 8, 0)
    assert (found["blas"].kind, found["blas"].flops) == ("__cublas$gemm", 2 * 8 * 2 * 4)
    assert found["blas"].float32_flops == found["blas"].flops
    assert found["slices"].flops == 0


def test_a_kernels_part_is_the_scope_of_its_operation(found):
    parts = {name: deviceless.part_of(each.made_by) for name, each in found.items()}
    assert parts == {
        "slices": "target", "updates": "update", "gemm": "online gradient", "blas": "unnamed", "twice": "online",
        "copied": "unnamed",
    }  # fmt: skip
    assert deviceless.part_of("jit(step)/transpose(jvp(online))/Decoder/conv") == "decoder gradient"
    assert deviceless.part_of("jit(train_step)/transpose(jvp(Swin))/stage_1_block_1/mul") == "encoder gradient"
    assert deviceless.part_of("jit(train_step)/vmap(BoxHead)/dynamic_update_slice") == "BoxHead"
    assert deviceless.part_of("jit(train_step)/while/body/dynamic_update_slice") == "unnamed"


def test_the_bound_is_of_the_slower_side():
    """By the data sheet: 4.8 TB/s, 989.4 TFLOP/s, half of them in float32."""
    chip = absent_gpu.H200
    assert chip.seconds(4_800_000, 0) == pytest.approx(1e-6)
    assert chip.seconds(4_800, 989_400_000) == pytest.approx(1e-6)
    assert chip.seconds(0, 989_400_000, 989_400_000) == pytest.approx(2e-6)


TPU = """HloModule jit_step

%moved (p: f32[4,10,16]) -> f32[10,4,16] {
  %p = f32[4,10,16]{2,1,0:T(8,128)} parameter(0)
  ROOT %turned = f32[10,4,16]{2,0,1:T(4,128)} transpose(%p), dimensions={1,0,2}
}

%scaled (q: f32[4,10,16]) -> f32[10,4,16] {
  %q = f32[4,10,16]{2,1,0:T(8,128)} parameter(0)
  %there = f32[10,4,16]{2,1,0:T(8,128)} transpose(%q), dimensions={1,0,2}
  ROOT %twice = f32[10,4,16]{2,1,0:T(8,128)} add(%there, %there)
}

%again (s: (s32[], bf16[40,8])) -> (s32[], bf16[40,8]) {
  %s = (s32[]{:T(128)}, bf16[40,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %row = bf16[40,8]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=1
  %step = bf16[40,8]{1,0:T(8,128)(2,1)} negate(%row)
  ROOT %pair = (s32[]{:T(128)}, bf16[40,8]{1,0:T(8,128)(2,1)}) tuple(%row, %step)
}

%under (t: (s32[], bf16[40,8])) -> pred[] {
  %seven = s32[]{:T(128)} constant(7)
  %t = (s32[]{:T(128)}, bf16[40,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %now = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %less = pred[]{:T(512)} compare(%now, %seven), direction=LT
}

ENTRY %main (x: f32[4,10,16], w: bf16[16,8]) -> f32[] {
  %x = f32[4,10,16]{2,1,0:T(8,128)} parameter(0)
  %w = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(1)
  %fetch = (bf16[16,8]{1,0:T(8,128)(2,1)S(1)}, bf16[16,8]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%w)
  %near = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} copy-done(%fetch)
  %turn = f32[10,4,16]{2,0,1:T(4,128)} fusion(%x), kind=kLoop, calls=%moved
  %add = f32[10,4,16]{2,1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%scaled
  %product = f32[40,8]{1,0:T(8,128)} convolution(%l, %near), dim_labels=bf_io->bf
  %l = bf16[40,16]{1,0:T(8,128)(2,1)} parameter(2)
  %batched = bf16[3,40,8]{2,1,0:T(8,128)(2,1)} convolution(%images, %weights), window={size=3 stride=2 lhs_dilate=3}, dim_labels=0bf_0io->0bf
  %images = bf16[3,40,16]{2,1,0:T(8,128)(2,1)} parameter(3)
  %weights = bf16[3,16,8]{2,1,0:T(8,128)(2,1)} parameter(4)
  %pallas = bf16[40,8]{1,0:T(8,128)(2,1)} custom-call(%l), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"TUzv","cost_estimate":{"flops":"77","transcendentals":"5","bytes_accessed":"9"}}}
  %loop = (s32[]{:T(128)}, bf16[40,8]{1,0:T(8,128)(2,1)}) while(%pallas), condition=%under, body=%again
  %sum = (f32[16,8]{1,0:T(8,128)}, f32[8]{0:T(128)}) all-reduce(%a, %b), to_apply=%add_up, metadata={op_name="jit(step)/transpose(jvp(online))/ViT/block_3/dot"}
  %gather = (bf16[2]{0}, bf16[16]{0}) all-gather-start(%k), dimensions={0}, metadata={op_name="jit(step)/loss"}
  ROOT %gathered = bf16[16]{0} all-gather-done(%gather)
}
"""  # noqa: E501


def test_a_tpus_arrays_are_padded_and_its_cores_memory_costs_nothing():
    """Tiles of 8 x 128: 10 rows of 16 take 16 x 128; of 4 x 128: 12 x 128."""
    found = {each.name: each for each in kernels.Program(TPU).kernels()}
    whole = 4 * 16 * 128 * 4
    assert (found["turn"].read, found["turn"].written) == (whole, 4 * 12 * 128 * 4)
    assert (found["fetch"].read, found["fetch"].written) == (2 * 16 * 128, 0)
    assert found["product"].read == 2 * 40 * 128
    assert {name: each.times for name, each in found.items() if each.times > 1} == {"step": 7}
    assert {name for name, each in found.items() if each.relayout} == {"turn"}


def test_a_tpus_products_are_convolutions():
    """A batch is a window that meets one image at a time; a Pallas kernel says itself what it does."""
    found = {each.name: each for each in kernels.Program(TPU).kernels()}
    assert found["product"].flops == 2 * 40 * 16 * 8
    assert found["batched"].flops == 3 * found["product"].flops
    assert found["pallas"].flops == 77
    assert deviceless.libraries(list(found.values())) == {"tpu_custom_call": 1}


def test_what_chips_send_each_other_is_listed_by_kind_dtype_and_operation():
    first, *others = collectives.listed(kernels.Program(TPU))
    assert first == {
        "kind": "all-reduce", "dtype": "f32", "arrays": 2, "bytes": 4 * (128 + 8), "largest": "f32[16, 8]",
        "made_by": "jit(step)/transpose(jvp(online))/ViT/block_N/dot",
    }  # fmt: skip
    assert [(row["kind"], row["bytes"], row["largest"]) for row in others] == [("all-gather", 32, "bf16[16]")]


@pytest.mark.parametrize(("name", "chips"), [("v6e:2x4", 8), ("v5p:2x2x1", 4), ("v5e:1x1", 1)])
def test_a_slice_has_as_many_chips_as_its_sides_say(name, chips):
    assert absent_tpu.count(name) == chips
    assert absent_gpu.count("h200:8") == 8
    for unknown in ("v6e", "v6e:2x4x1", "v9:2x4"):
        with pytest.raises(UserError, match=r"No slice of TPUs is called .*\n  expected: such as v5e:2x4, v5p:2x4x4"):
            absent_tpu.count(unknown)
