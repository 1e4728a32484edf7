"""From a config to the objects that a run is made of. Nothing below builds from a config."""
