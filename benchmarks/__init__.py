"""Programs that print the figures quoted in the README."""
