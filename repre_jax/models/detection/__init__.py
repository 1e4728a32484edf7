"""Mask R-CNN: the geometry of boxes, and the modules that find and describe objects."""
