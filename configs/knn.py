"""k-NN of frozen features, DINO's weighted vote (dino eval_knn.py): the training images vote, the test images count.

python main.py --config configs/knn.py --config.init_from=runs/demo --workdir runs/demo-knn

DINO's figures are of the teacher's class token, k = 20, both splits resized to 256 pixels by bicubic interpolation and
cut to 224, which is data.test_crop=0.875.
"""

from ml_collections import ConfigDict

from configs import base_evaluation


def embedded(config: ConfigDict) -> None:
    """For an encoder trained on the embedded digits or scenes: few and small images."""
    config.batch_size = 256
    config.data.workers = 0


def tiny(config: ConfigDict) -> None:
    """For smoke tests."""
    config.batch_size = 16


def get_config(variants: str = "") -> ConfigDict:
    config = base_evaluation.get_config()
    config.task = "knn"
    config.feature = "pooled"
    config.knn = ConfigDict()
    config.knn.k = (10, 20, 100, 200)  # each is reported (dino eval_knn.py:194)
    config.knn.temperature = 0.07  # of the votes' weights, exp(cosine / temperature) (dino eval_knn.py:196)
    return base_evaluation.with_variants(config, variants, {"digits": embedded, "scenes": embedded, "tiny": tiny})
