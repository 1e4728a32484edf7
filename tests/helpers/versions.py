"""What the installed versions have, without importing them."""

from importlib.metadata import version

OLD_LOOPS = "xla_cpu_use_fusion_emitters"  # XLA's flag and compiler option; set to false, it writes them as before
HAS_OLD_LOOPS = tuple(map(int, version("jaxlib").split(".")[:2])) < (
    0,
    12,
)  # which ends at a flag that it does not know
