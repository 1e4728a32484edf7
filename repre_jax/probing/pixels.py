"""What a linear classifier reaches on raw pixels, beside what heads reach on an encoder's features."""

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import monitor
from repre_jax.core import sharding
from repre_jax.core.types import Records
from repre_jax.evaluation import features, ridge
from repre_jax.probing import labelled
from repre_jax.running.lifecycle import ShouldStop


def top1(
    config: ConfigDict, train: Records, held_out: Records, test: Records, classes: int, mesh: Mesh, stop: ShouldStop
) -> float:
    """Of a ridge classifier, 0..1: heads by steps would be of another width than the encoders', and as good only after
    a search of their own. held_out: training images that choose its penalty. Holds the pixels of all images, at most
    32 x 32 of each. Raises Interrupted."""
    encode = jax.jit(monitor.small_pixels, out_shardings=sharding.replicated(mesh))
    known = [
        features.extract(encode, labelled.test_images(config, records, stop)[1], mesh)
        for records in (train, held_out, test)
    ]
    return ridge.accuracy(known[0], known[1], known[2], classes)
