"""Figures drawn from runs."""
