"""Contrastive frameworks, one file each; none knows of RePre or of another."""
