"""Heads that give a class to every place of an image."""
