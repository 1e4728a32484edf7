"""The fake devices of a process that a test starts."""

import os


def xla_flags(devices: int) -> str:
    """$XLA_FLAGS of the tests, with another number of devices: of two flags of one name XLA takes the last."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
