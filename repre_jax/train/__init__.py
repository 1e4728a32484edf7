"""The mathematics of training steps: pre-training, reconstruction, supervised, probe, microbatches, update."""
