"""Programs that print the figures quoted in README.md and docs/."""
