"""The life of a run: lifecycle, loop, resume, recorder, workdir, signals, watchdog."""
