"""From a config to the objects that a run is made of. Below this room nobody sees a config."""
