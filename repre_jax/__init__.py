"""RePre (Wang et al., 2022) in JAX and Flax: contrastive pre-training of vision transformers with pixel reconstruction.

`repre_jax.load_encoder(path)` loads an exported encoder, `repre_jax.load_segmenter(run)` what a run of
configs/segment.py has trained, and `repre_jax.load_detector(run)` what one of configs/detect.py has. Everything else is
imported from its room, and `import repre_jax` itself loads neither JAX nor Flax.

Rooms, lowest first; imports point down only (tests/test_layers.py holds this):
  core        types, errors, sharding, schedules, optimiser, checkpoints, the files of a run
  system      the process and its machine: processes, devices, terminal, command line, compile cache, large pages
  losses      pure array functions
  models      encoders, heads, decoder
  data        records -> uint8 views on the host -> augmented views on the device
  frameworks  one file per contrastive framework
  evaluation  features, k-NN, and the numbers that figures show
  interop     files of weights, under timm's names and those of the frameworks' authors
  train       the training steps: pre-training with reconstruction, supervised, probe
  report      the terminal's lines, a run's page, figures, TensorBoard's and W&B's logs
  running     the life of a run: loop, resume, recorder, signals
  builders    from a config to the objects that a run is made of
  pretrained  finds a trained encoder: in a run's checkpoint or in a file
  probing     measures frozen features
  tasks       what main.py runs: run(config, workdir) -> results
  reproduction  the paper's tables: runs, cells, statistics
  tools       commands of their own: figures, export, segment, detect, prepare, inspect, compare, reproduce, doctor
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from repre_jax.models.encoders import Encoder
    from repre_jax.pretrained.detector import Detector
    from repre_jax.pretrained.segmenter import Segmenter

__version__ = "0.2.0"


def load_encoder(path: "str | Path") -> "tuple[Encoder, dict[str, Any], dict[str, Any]]":
    """An encoder from a file that `python -m repre_jax.tools.export` wrote, .safetensors or .npz, and its card.

    Returns the Flax module, its parameters (NumPy, float32) and the card as a dictionary:
    `encoder.apply({"params": params}, images).pooled` are the features [N, D] of images [N, H, W, channels], float32,
    normalised as card["preprocessing"] says.
    Raises core.errors.UserError when the file or its card is missing, damaged, or one does not belong to the other.
    """
    from repre_jax.pretrained import exported  # here, since it loads JAX

    return exported.load_encoder(path)


def load_segmenter(run: "str | Path", step: int | None = None) -> "Segmenter":
    """The segmentation that a run of configs/segment.py has trained: a function of an image.

    run: its workdir. step: of the checkpoint; None: the newest. The images are uint8 RGB [H, W, 3] of any size, the
    label maps that it gives uint8 [H, W]; `classes.names` says what the numbers mean, `classes.painted(label_map)` is a
    picture of them.
    Raises core.errors.UserError when there is no such run or step.
    """
    from repre_jax.pretrained import segmenter  # here, since it loads JAX

    return segmenter.load(run, step, keys="")


def load_detector(run: "str | Path", step: int | None = None) -> "Detector":
    """The Mask R-CNN that a run of configs/detect.py has trained: a function of an image.

    run: its workdir. step: of the checkpoint; None: the newest. The images are uint8 RGB [H, W, 3] of any size; what it
    finds in one has boxes, float32 [n, 4], x0, y0, x1, y1 in pixels, scores, float32 [n], labels, n names, and masks,
    bool [n, H, W], or None of a detector of boxes; by falling score, down to that of the run's own test.
    Raises core.errors.UserError when there is no such run or step.
    """
    from repre_jax.pretrained import detector  # here, since it loads JAX

    return detector.load(run, step, keys="")
