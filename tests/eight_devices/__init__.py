"""Tests of what only more than two devices show; `make test` starts them with eight."""
