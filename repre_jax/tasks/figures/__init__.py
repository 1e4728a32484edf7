"""Figures of a trained encoder: what joins model, data and drawing, a file a kind. evaluation/ has the numbers."""
