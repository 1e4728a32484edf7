"""What evaluations of a trained encoder share: frozen and cached features, labelled images, heads, records."""
