"""JAX's defaults that our numbers depend on, as JAX ships them, whatever the environment has made of them.

JAX_ENABLE_X64=1 stands in many a shell's profile. Under it whatever leaves its dtype open is float64: other random
draws, other numbers, twice the memory. The strict promotions refuse what our code writes on purpose, and another random
generator has keys of another shape than a checkpoint's. The precision of matrix products stays the user's.
"""

import contextlib
from collections.abc import Iterator

import jax

from repre_jax.system import terminal

DEFAULTS = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
}


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While entered, and in every thread, JAX has these defaults; says which were others, and restores them."""
    before = {name: getattr(jax.config, name) for name in DEFAULTS}
    others = [name.upper() for name, value in before.items() if value != DEFAULTS[name]]
    if others:
        terminal.say(f"Note: {', '.join(others)}: not heeded here, so that numbers are the same everywhere.")
    try:
        for name, value in DEFAULTS.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
