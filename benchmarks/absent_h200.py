"""An NVIDIA H200 to compile for, on a machine that has none: XLA plans a program for it, and nothing can be run.

It takes `pip install jax-cuda12-plugin jax-cuda12-pjrt` (480 MB, of JAX's own version, no driver, no CUDA; with
`--target DIR` and PYTHONPATH=DIR it stays out of the environment) and the process on a CPU, JAX_PLATFORMS=cpu.
Nothing is tried out on the chip while compiling, so that XLA chooses kernels by rules, not by measuring.
"""

import os

import jax
from jax._src import xla_bridge
from jax.experimental import topologies

from repre_jax.core.errors import UserError

NAME = "NVIDIA H200"
# NVIDIA's data sheet and CUDA's properties of it, as XLA's message stream_executor.GpuTargetConfigProto calls them.
DESCRIPTION = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000
  device_memory_size: 151397597184
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
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H200"
"""
CONSTRAINTS = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"  # else the plugin looks for CUDA's libraries


def devices() -> list[jax.Device]:
    """One H200, in this process for which JAX's names for a GPU become CUDA. Raises UserError without the plugin."""
    os.environ[CONSTRAINTS] = "1"
    jax.devices()  # finds plugins
    canonical = xla_bridge.canonicalize_platform
    xla_bridge.canonicalize_platform = lambda platform: "cuda" if platform == "gpu" else canonical(platform)
    try:
        found = topologies.get_topology_desc(platform="cuda", target_config=DESCRIPTION, topology="1x1x1")
    except RuntimeError as error:  # without the plugin JAX raises NotImplementedError, which is one
        raise UserError(
            f"XLA cannot compile for an {NAME} here: {str(error).strip().splitlines()[0]}\n"
            f"  change:   pip install --target DIR --no-deps jax-cuda12-plugin=={jax.__version__} "
            f"jax-cuda12-pjrt=={jax.__version__},\n"
            "            then PYTHONPATH=DIR before the command"
        ) from None
    return list(found.devices)
