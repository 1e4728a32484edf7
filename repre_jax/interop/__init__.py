"""Weights in and out: other projects' names and file formats."""
