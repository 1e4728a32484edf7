"""Finds a trained encoder, in a run, in a file or by its card, and starts new runs from one."""
