"""What is expected of each framework, one file each, by hand from its sources; tests/helpers/expected.py reads them."""
