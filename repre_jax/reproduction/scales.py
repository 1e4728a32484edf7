"""Scales: how large the runs are that a table is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from repre_jax.reproduction.paper import SWIN_T, VIT_B, VIT_S
from repre_jax.reproduction.runs import STEP, Run

SUPERVISED = "supervised"
CONFIGS = {"moco_v3": "moco"}  # how a framework's config files begin, where not with its name


@dataclass(frozen=True)
class Scale:
    """What of the paper is computed, and by which variants of the configs.

    pretrain, dense: of pre-training for classification, and for tasks that ask for each pixel.
    linear: of the probe, by framework, else under ''.
    supervised: of configs/finetune.py, by encoder. segment, detect, probe: of the other evaluations.
    untrained: whether the linear probe has the encoder as it was before its first step beside it.
    classified: the data that supervised pre-training has labels of; '' for the config's own.
    twice: the variant of a pre-training twice as long, where a scale knows no lengths.
    by_epochs: whether the paper's lengths are told apart; else each row stands once.
    encoders: those of Table 1.
    flags: of pre-training, of what it measures on the way.
    step_batch: records a step where the step alone is measured; None for the config's.
    """

    name: str
    pretrain: str
    dense: str
    linear: Mapping[str, str]
    supervised: Mapping[str, str]
    segment: str
    detect: str
    probe: str
    classified: str
    twice: str
    untrained: bool
    by_epochs: bool
    encoders: tuple[str, ...]
    flags: tuple[str, ...] = ()
    step_batch: int | None = None

    def pretraining(self, framework: str, encoder: str, epochs: int, seed: int, variant: str, dense: bool) -> Run:
        """A pre-training. variant: 'baseline' without RePre, '' with it as the paper has it, or an ablation's."""
        length = f"epochs={epochs}" if self.by_epochs else ""
        variants = ",".join(filter(None, (self.dense if dense else self.pretrain, variant, length)))
        return Run(f"{CONFIGS.get(framework, framework)}_{encoder}", variants, seed, self.flags)

    def step(self, framework: str, encoder: str, preset: str, seed: int) -> Run:
        """A measurement of a pre-training step, as long as others are not at the machine."""
        config = f"{CONFIGS.get(framework, framework)}_{encoder}"
        flags = ("--repre", preset, *((f"--config.batch_size={self.step_batch}",) if self.step_batch else ()))
        return Run(config, self.pretrain, seed, flags, label=f"step-{preset}", program=STEP)

    def supervised_pretraining(self, encoder: str, epochs: int, dense: bool, seed: int) -> Run:
        """Training with labels from random weights. On embedded data the encoder is that of a pre-training of the same
        size, whose weights it does not take."""
        if not self.classified:
            flags = ("--config.data.name=imagenet2012", f"--config.encoder.name={encoder}", f"--config.epochs={epochs}")
            return Run("finetune", self.supervised[encoder], seed, flags, label=f"{encoder}-{epochs}")
        like = self.pretraining("dino", encoder, epochs, seed, "baseline", dense)
        labelled = (f"--config.data.name={self.classified}",)
        return Run("finetune", self.supervised[encoder], seed, labelled, like, SUPERVISED)


FULL = Scale(
    name="full",
    pretrain="",
    dense="",
    linear={"dino": "dino", "moby": "moby", "": "mocov3"},
    supervised={VIT_S: "scratch", SWIN_T: "swin,scratch"},
    segment="",
    detect="",
    probe="",
    classified="",
    twice="",
    untrained=False,
    by_epochs=True,
    encoders=(VIT_S, VIT_B, SWIN_T),
    step_batch=256,
)
SCENES = Scale(
    name="scenes",
    pretrain="scenes",
    dense="scenes_dense",
    linear={"": "scenes,cached"},
    supervised={VIT_S: "scratch,scenes", SWIN_T: "swin,scratch,scenes"},
    segment="scenes",
    detect="scenes",
    probe="scenes",
    classified="scenes/objects",
    twice="epochs=10",
    untrained=True,
    by_epochs=False,
    encoders=(VIT_S,),
    flags=("--config.knn.times=2", "--config.knn.hog=False"),  # which only say how often it looks at itself
)
TINY = Scale(
    name="tiny",
    pretrain="tiny",
    dense="scenes_dense,tiny",
    linear={"": "cached,tiny"},
    supervised={VIT_S: "scratch,scenes,tiny", SWIN_T: "swin,scratch,scenes,tiny"},
    segment="tiny",
    detect="tiny",
    probe="tiny",
    classified="scenes/objects",
    twice="total_steps=16",
    untrained=True,
    by_epochs=False,
    encoders=(VIT_S,),
)
SCALES = {scale.name: scale for scale in (SCENES, FULL, TINY)}
