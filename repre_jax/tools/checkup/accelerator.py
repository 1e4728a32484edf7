"""What JAX finds on this machine, and whether cuDNN's attention runs here, as JSON that devices.py reads.

A process of its own, because a backend that fails may hang or end the process. Imports jax only when it runs.
"""

import json
import sys
from typing import Any, Literal

SHAPE, SPARE = (2, 198, 6, 64), 1  # [N, T, heads, channels a head]: ViT-S/16 at 224 x 224 pixels, for cuDNN


def main() -> int:
    """Prints {'devices': [...]}, or {'error': why JAX cannot start}; on a GPU then a line {'attention': {...}}."""
    try:
        found = devices()
    except Exception as error:
        print(json.dumps({"error": _line(error)}))
        return 0
    print(json.dumps({"devices": found}), flush=True)
    if found[0]["platform"] == "gpu":
        print(json.dumps({"attention": attention("cudnn")}))
    return 0


def devices() -> list[dict[str, Any]]:
    """Platform, kind and memory in bytes (None where it is not told) of each device of this process."""
    import jax

    found = []
    for device in jax.local_devices():
        try:
            memory = (device.memory_stats() or {}).get("bytes_limit")
        except Exception:  # not every backend has it
            memory = None
        found.append({"platform": device.platform, "kind": device.device_kind, "memory": memory})
    return found


def attention(implementation: Literal["cudnn", "xla"]) -> dict[str, Any]:
    """Forward and backward of models/self_attention.fused_attend in bfloat16, compiled, run and compared with XLA's.

    {'output': largest absolute difference, 'gradients': likewise, of q, k and v drawn from N(0, 1)} or {'error': why
    it does not run}.
    """
    import jax
    import numpy as np

    from repre_jax.models import self_attention

    q, k, v, weights = jax.random.normal(jax.random.PRNGKey(0), (4, *SHAPE), "bfloat16")

    def run(implementation: Literal["cudnn", "xla"]) -> tuple:
        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            output = self_attention.fused_attend(q, k, v, SPARE, implementation)
            return (output * weights).astype("float32").sum(), output

        gradients, output = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return np.asarray(output, np.float32), np.asarray(gradients, np.float32)

    try:
        ours, theirs = run(implementation), run("xla")
    except Exception as error:
        return {"error": _line(error)}
    output, gradients = (float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return {"output": output, "gradients": gradients}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


if __name__ == "__main__":
    sys.exit(main())
