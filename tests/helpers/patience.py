"""How long the tests wait for a process of their own."""

HANGS = 1800  # seconds; long, since a shared machine may be many times slower, and only a test that fails waits for it
