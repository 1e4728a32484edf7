"""The layer that turns an encoder's output into classes, for fine-tuning."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from repre_jax.core.types import EncoderOutput
from repre_jax.models.vit import LAYER_NORM_EPSILON


class Classifier(nn.Module):
    """EncoderOutput of N images -> logits float32 [N, classes].

    mean_then_norm: MAE's, for ViT (mae models_vit.py, global_pool): the mean of the last block's patch tokens goes
    through a LayerNorm of its own, in place of the encoder's final one. Else the encoder's pooled feature is taken:
    Swin's, or a class token. init_std: of the weights.
    """

    classes: int
    mean_then_norm: bool
    init_std: float

    @nn.compact
    def __call__(self, output: EncoderOutput) -> jax.Array:
        x = output.pooled
        if self.mean_then_norm:
            x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")(output.pyramid[-1].mean(axis=(1, 2)))
        kernel_init = nn.initializers.normal(self.init_std)  # timm's trunc_normal_ cuts at 2, not at two deviations
        return nn.Dense(self.classes, kernel_init=kernel_init, name="head")(x.astype(jnp.float32))
