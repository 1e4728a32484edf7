"""The reconstruction branch, the training step and the loop that calls it."""
