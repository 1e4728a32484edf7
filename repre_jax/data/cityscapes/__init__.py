"""Cityscapes: its classes, its two official archives, and TFDS's layout of them."""
