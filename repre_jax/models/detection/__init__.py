"""Mask R-CNN: from an encoder's maps to boxes, classes and masks of objects."""
