"""Contrastive frameworks, one file each; none knows of RePre or of another.

Each file says all that is particular to its framework, in a record SPEC; this table is the one list of them. How to add
one: docs/add-a-framework.md.
"""

from repre_jax.frameworks import byol, dino, moby, moco_v2, moco_v3, simclr, simsiam, vicreg
from repre_jax.frameworks.base import Spec

FRAMEWORKS: dict[str, Spec] = {  # by the name in config.framework.name
    "byol": byol.SPEC,
    "dino": dino.SPEC,
    "moby": moby.SPEC,
    "moco_v2": moco_v2.SPEC,
    "moco_v3": moco_v3.SPEC,
    "simclr": simclr.SPEC,
    "simsiam": simsiam.SPEC,
    "vicreg": vicreg.SPEC,
}
