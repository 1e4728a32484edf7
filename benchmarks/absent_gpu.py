"""NVIDIA GPUs to compile for, on a machine that has none: XLA plans a program for one, and nothing can be run.

It takes `pip install jax-cuda12-plugin jax-cuda12-pjrt` (480 MB, of JAX's own version, no driver, no CUDA; with
`--target DIR` and PYTHONPATH=DIR it stays out of the environment) and the process on a CPU, JAX_PLATFORMS=cpu.
Nothing is tried out on the chip while compiling, so that XLA chooses kernels by rules, not by measuring.
"""

import os
import re
from dataclasses import dataclass

import jax
from jax._src import xla_bridge
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import topologies

from repre_jax.core.errors import UserError
from repre_jax.models import platform


@dataclass(frozen=True)
class Chip:
    """By NVIDIA's data sheet: flops of bfloat16 products a second, without sparsity, of float32 (as TF32) half of it;
    bandwidth of its memory in bytes a second, and how many bytes that has."""

    name: str
    flops: float
    bandwidth: int
    memory: int
    usable: int | None = None  # of it by programs, where that is known

    def seconds(self, moved: int, flops: int, float32_flops: int = 0) -> float:
        """The least that a kernel takes which moves so many bytes and does so many FLOPs, some of them in float32."""
        return max(moved / self.bandwidth, (flops + float32_flops) / self.flops)


H200 = Chip("NVIDIA H200", 989.4e12, 4_800_000_000_000, 151_397_597_184)
H100 = Chip("NVIDIA H100", 989.4e12, 3_350_000_000_000, 85_899_345_920)
CHIPS = {"h200": H200, "h100": H100}
# CUDA's properties of both, as XLA's message stream_executor.GpuTargetConfigProto calls them.
DESCRIPTION = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: {bandwidth}
  device_memory_size: {memory}
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{name}"
"""
CUDNN, CAPABILITY = 91_000, 9.0  # of DESCRIPTION, as JAX asks for them
CONSTRAINTS = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"  # else the plugin looks for CUDA's libraries


def count(name: str) -> int:
    """Of 'h200:8' eight. Raises UserError for a name that is not written so."""
    kind, _, number = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"|[1-9]\d*", number):
        raise UserError(f"No chip is called {name!r}.\n  expected: {', '.join(CHIPS)}, or several as h200:8")
    return int(number or 1)


def devices(name: str = "h200") -> list[jax.Device]:
    """Those of 'h200' or, on one host, 'h200:8', in this process: for it JAX's names for a GPU become CUDA, and cuDNN's
    attention can be asked for.

    Raises UserError for an unknown name, and without the plugin.
    """
    number, chip = count(name), CHIPS[name.partition(":")[0]]
    os.environ[CONSTRAINTS] = "1"
    jax.devices()  # finds plugins
    canonical = xla_bridge.canonicalize_platform
    xla_bridge.canonicalize_platform = lambda platform: "cuda" if platform == "gpu" else canonical(platform)
    fused_attention_stablehlo.check_cudnn_version = lambda: CUDNN
    fused_attention_stablehlo.check_compute_capability = lambda least: float(least) <= CAPABILITY
    fused_attention_stablehlo.is_cuda_compute_capability_equal = lambda one: float(one) == CAPABILITY
    platform.compiled_for = lambda: "gpu"
    try:
        found = topologies.get_topology_desc(
            platform="cuda", target_config=DESCRIPTION.format(**vars(chip)), topology=f"1x1x{number}"
        )
    except RuntimeError as error:  # JAX's where no plugin is, XLA's for what the plugin refuses
        raise UserError(
            f"XLA cannot compile for an {chip.name} here: {str(error).strip().splitlines()[0]}\n"
            f"  change:   pip install --target DIR --no-deps jax-cuda12-plugin=={jax.__version__} "
            f"jax-cuda12-pjrt=={jax.__version__},\n"
            "            then PYTHONPATH=DIR before the command"
        ) from None
    return list(found.devices)
