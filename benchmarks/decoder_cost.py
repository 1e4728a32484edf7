"""What the reconstruction decoder costs beside MoCo v3's step at 224 x 224 pixels: multiply-adds, counted.

  python -m benchmarks.decoder_cost [vit_s vit_b swin_t ...]

By formula (biases, norms, softmax and resizing ignored; projector and predictor left out: less than 0.5 % of the
encoder) and by XLA's cost analysis of the decoder's forward pass, which leaves out the taps of a convolution that fall
on padding. A step runs the encoder forward and backward (3 x forward) on two views and the target forward on two, 8 x
forward in all; the decoder runs forward and backward on the views that it reconstructs.
"""

import argparse
import math

import jax
import jax.numpy as jnp

from repre_jax.models import build_encoder, decoder
from repre_jax.models.encoders import SWINS, VITS, Encoder
from repre_jax.models.vit import ViT

SIDE = 224
PAPERS = ("vit_s", "vit_b", "swin_t")
DECODERS = {
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


def encoder_macs(encoder: Encoder) -> int:
    """Multiply-adds of one image's forward pass."""
    side = SIDE // encoder.patch
    pixels = encoder.patch**2 * encoder.channels
    if isinstance(encoder, ViT):
        return side**2 * pixels * encoder.width + encoder.depth * _block_macs(side**2 + 1, side**2 + 1, encoder.width)
    macs = side**2 * pixels * encoder.width
    for stage, depth in enumerate(encoder.depth):
        width, tokens = encoder.width * 2**stage, (side // 2**stage) ** 2
        macs += depth * _block_macs(tokens, encoder.window**2, width)
        if stage + 1 < len(encoder.depth):
            macs += tokens // 4 * 4 * width * 2 * width
    return macs


def _block_macs(tokens: int, seen: int, width: int) -> int:
    """A transformer block over `tokens`, each of which attends to `seen`."""
    return tokens * (12 * width**2 + 2 * seen * width)


def decoder_macs(module: decoder.Decoder, pyramid: tuple[tuple[int, int, int], ...]) -> int:
    """Multiply-adds of the decoder's forward pass for one image; pyramid: (h, w, C), shallow to deep."""
    widths = module.widths(tuple(channels for _, _, channels in pyramid))
    macs, width = 0, widths[-1]
    for level, ((h, w, channels), own) in enumerate(zip(pyramid, widths, strict=True), start=1):
        if module.lateral_share is not None and (not module.single or level == len(pyramid)):
            macs += h * w * channels * own
    for (h, w, _), own in reversed(list(zip(pyramid, widths, strict=True))[:-1]):
        entering = width if module.single else width + own
        if module.operator == "conv":
            macs += h * w * 9 * (entering * own + (module.fusion_layers - 1) * own**2)
        else:
            seen = h * w if module.window is None else module.window**2
            macs += h * w * entering * own if entering != own else 0
            macs += module.fusion_layers * _block_macs(h * w, seen, own)
        width = own
    return macs + math.prod(pyramid[0][:2]) * width * module.patch**2 * module.channels


def xla_macs(module: decoder.Decoder, pyramid: tuple[tuple[int, int, int], ...]) -> float:
    """The same, by XLA's count of the operations, two to a multiply-add."""
    maps = tuple(jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in pyramid)
    variables = jax.eval_shape(module.init, jax.random.key(0), maps)
    return jax.jit(module.apply).lower(variables, maps).cost_analysis()["flops"] / 2


def pyramid_of(encoder: Encoder) -> tuple[tuple[int, int, int], ...]:
    """(h, w, C) of each level, shallow to deep."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, encoder.channels), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    return tuple(level.shape[1:] for level in jax.eval_shape(encoder.apply, variables, images).pyramid)


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
