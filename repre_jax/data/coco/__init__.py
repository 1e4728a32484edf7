"""Data sets in COCO's JSON: what their files say, where their images lie, and TFDS's layout of them."""
