"""Fine-tuning of an encoder with labels, end to end, by MAE's recipe for ViT (`:mae`, the default) or Swin's (`:swin`).

python main.py --config configs/finetune.py --config.init_from=RUN                a run, or a file of weights
python main.py --config configs/finetune.py:scratch --config.data.name=imagenet2012 --config.encoder.name=vit_s
"""

from ml_collections import ConfigDict

from configs import base_evaluation

UNDECAYED = ("/(bias|scale|cls_token|pos_embed|bias_table)$", "weight_decay", 0.0)


def mae(config: ConfigDict) -> None:
    """mae FINETUNE.md, "Fine-tuning"; main_finetune.py:42-117, 227-287: ViT-B's."""


def swin(config: ConfigDict) -> None:
    """Swin config.py:66-70, 152-160, 203-225, of supervised training; fewer epochs, as SimMIM fine-tunes."""
    config.finetune.recipe = "swin, 100 epochs instead of 300"
    config.finetune.mean_then_norm = False
    config.finetune.layer_decay = 1.0
    config.finetune.init_std = 0.02
    config.encoder.drop_path = 0.2
    config.optim.lr = 2.5e-4
    config.optim.lr_start = 1e-6  # for batches of 1024, as the end: Swin scales both
    config.optim.lr_end = 1e-5
    config.optim.warmup_epochs = 20.0
    config.optim.clip_norm = 5.0


def scratch(config: ConfigDict) -> None:
    """From random weights: the supervised baseline, as Swin's authors train one (Swin config.py:66-70), of a ViT with
    the head that MAE fine-tunes it with."""
    head = ", Swin's optimiser with MAE's head" if config.finetune.mean_then_norm else ", swin"
    config.finetune.recipe = f"from scratch{head}"
    config.finetune.layer_decay = 1.0
    config.finetune.init_std = 0.02
    config.network = "untrained"
    config.epochs = 300.0
    config.optim.lr = 2.5e-4
    config.optim.lr_start = 1e-6
    config.optim.lr_end = 1e-5
    config.optim.warmup_epochs = 20.0
    config.optim.clip_norm = 5.0


def digits(config: ConfigDict) -> None:
    """For an encoder trained on the embedded digits. Tuned on that data set."""
    base_evaluation.embedded_images(config)
    config.finetune.randaugment = ""
    config.finetune.mixup_alpha = 0.0
    config.finetune.cutmix_alpha = 0.0
    config.finetune.erase_probability = 0.0
    config.encoder.drop_path = 0.0
    config.epochs = 60.0
    config.optim.lr = 4e-3
    config.optim.lr_start = 0.0
    config.optim.lr_end = 1e-6
    config.optim.warmup_epochs = 5.0


def scenes(config: ConfigDict) -> None:
    """For an encoder trained on scenes/objects: the digits' settings, a quarter of their epochs, of four times as many
    images, and three times their rate: 96.9 in place of 95.8 % on train[80%:], seed 0 (docs/scenes.md)."""
    digits(config)
    config.epochs = 15.0
    config.optim.lr = 1.2e-2
    config.optim.warmup_epochs = 1.0


def tiny(config: ConfigDict) -> None:
    """For smoke tests."""
    base_evaluation.tiny_run(config)


RECIPES = {"mae": mae, "swin": swin}


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    base_evaluation.add_training(config)
    config.task = "finetune"
    config.accumulate = 1  # microbatches that a batch is computed in, one after another
    config.epochs = 100.0
    config.encoder.drop_path = 0.1
    config.augment.interpolation = "bicubic"

    config.finetune = ConfigDict()
    config.finetune.recipe = "mae"
    config.finetune.mean_then_norm = True  # ViT: the mean of the patch tokens, then a LayerNorm; else pooled, as it is
    config.finetune.layer_decay = 0.65  # of the learning rate from block to block, towards the input; 1: none
    config.finetune.init_std = 2e-5  # of the head's first weights
    config.finetune.label_smoothing = 0.1
    config.finetune.mixup_alpha = 0.8  # 0: no mixup
    config.finetune.cutmix_alpha = 1.0  # 0: no cutmix
    config.finetune.erase_probability = 0.25
    config.finetune.randaugment = "rand-m9-mstd0.5-inc1"  # '' for none

    config.optim.name = "adamw"
    config.optim.lr = 5e-4
    config.optim.lr_end = 1e-6
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.rules = (UNDECAYED,)
    known = RECIPES | {"scratch": scratch, "digits": digits, "scenes": scenes, "tiny": tiny}
    published = (*RECIPES, "scratch")
    return base_evaluation.with_variants(config, variants, known, one_of=tuple(RECIPES), published=published)
