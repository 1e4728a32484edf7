"""What the reconstruction decoder costs beside MoCo v3's step at 224 x 224 pixels: multiply-adds, counted.

  python -m benchmarks.decoder_cost [vit_s vit_b swin_t ...]

By formula (benchmarks/flops.py; projector and predictor are less than 0.5 % of the encoder) and by XLA's cost analysis
of the decoder's forward pass, which leaves out the taps of a convolution that fall on padding. A step
runs the encoder forward and backward (3 x forward) on two views and the target forward on two, 8 x forward in all; the
decoder runs forward and backward on the views that it reconstructs.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.flops import SIDE, Pyramid, decoder_macs, encoder_macs, pyramid_of
from repre_jax.models import build_encoder, decoder
from repre_jax.models.encoders import SWINS, VITS, Encoder

PAPERS = ("vit_s", "vit_b", "swin_t")
DECODERS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper, both views": {"views": 2},
    "light": {"preset": "light"},
    "light, both views": {"preset": "light", "views": 2},
    "single": {"single": True},
    "1 conv layer": {"fusion_layers": 1},
    "4 conv layers": {"fusion_layers": 4},
    "1 transformer layer": {"operator": "transformer", "fusion_layers": 1},
    "2 transformer layers": {"operator": "transformer"},
    "4 transformer layers": {"operator": "transformer", "fusion_layers": 4},
}


def xla_macs(module: decoder.Decoder, pyramid: Pyramid) -> float:
    """The same, by XLA's count of the operations, two to a multiply-add."""
    maps = tuple(jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in pyramid)
    variables = jax.eval_shape(module.init, jax.random.key(0), maps)
    cost: Any = jax.jit(module.apply).lower(variables, maps).cost_analysis()
    return cost["flops"] / 2


def share_of_step(module: decoder.Decoder, encoder: Encoder, views: int) -> float:
    """Decoder forward + backward on so many views, over the rest of MoCo v3's step; 0.04 is the paper's claim."""
    return 3 * views * decoder_macs(module, pyramid_of(encoder)) / (8 * encoder_macs(encoder))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=PAPERS, metavar="encoder", help="the paper's by default")
    names = parser.parse_args().encoders
    if unknown := set(names) - set(VITS | SWINS):
        parser.error(f"unknown encoder {', '.join(sorted(unknown))}; known: {', '.join(VITS | SWINS)}")
    print(f"GMACs of one image at {SIDE} x {SIDE}, jax {jax.__version__}\n")
    print("| encoder | forward | decoder | forward, formula | forward, XLA | added to the step | parameters |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        encoder = build_encoder(name)
        pyramid = pyramid_of(encoder)
        for label, settings in DECODERS.items():
            module = decoder.build(encoder, **settings)
            maps = tuple(jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in pyramid)
            variables = jax.eval_shape(module.init, jax.random.key(0), maps)
            parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
            added = share_of_step(module, encoder, settings.get("views", 1))
            print(
                f"| {name} | {encoder_macs(encoder) / 1e9:.3f} | {label} | {decoder_macs(module, pyramid) / 1e9:.3f} "
                f"| {xla_macs(module, pyramid) / 1e9:.2f} | {added:.1%} "
                f"| {parameters / 1e6:.1f} M |"
            )


if __name__ == "__main__":
    run()
