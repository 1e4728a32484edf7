"""Types, errors, sharding, schedules, optimiser, checkpoints and metrics: what every other room may use."""
