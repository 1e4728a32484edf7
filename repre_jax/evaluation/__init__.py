"""Feature extraction and the k-NN vote."""
