"""Figures by matplotlib, drawn without a display: a file a kind, each a function from arrays to a Figure."""
