"""Tests of what only more than two devices show, or recorded with eight; `make test` starts them with eight."""
