"""One of two real processes, for test_hosts.py: prints as JSON what its part of the machinery gives.

python tests/host_child.py COORDINATOR PROCESS DATA_DIR
"""

import hashlib
import itertools
import json
import sys

import jax
import numpy as np

import main
from repre_jax.core import runtime
from repre_jax.core.errors import UserError
from repre_jax.data.unreadable import Unreadable
from repre_jax.evaluation import features
from repre_jax.tasks import pretrain, setup
from repre_jax.train.agreement import Agreement

TINY = ["main.py", "--config", "configs/moco_vit_s.py:tiny", "--config.knn.test_records=21"]


def rows(array):
    """Number of each of this process's rows of a global array -> a digest of its bytes."""
    return {
        shard.index[0].indices(len(array))[0] + place: hashlib.md5(row.tobytes()).hexdigest()
        for shard in array.addressable_shards
        for place, row in enumerate(np.asarray(shard.data))
    }


def measure(data_dir):
    config, _ = main.parse([*TINY, f"--config.data.dir={data_dir}"])
    job = setup.build(config)
    batches = pretrain._batches(config, job, 88, Unreadable(job.dataset.train, 3, 0.01, print))  # an epoch ends
    evaluation = job.evaluation
    means = jax.jit(lambda images: images.reshape(len(images), -1)[:, ::7], out_shardings=jax.sharding.NamedSharding(
        job.mesh, jax.sharding.PartitionSpec()))  # fmt: skip
    found, labels = features.extract(means, evaluation._batches(job.dataset.test, 21), job.mesh)
    state = job.init_state()
    measured = evaluation.reconstruction(state)
    return {
        "batches": [rows(batch.images) for batch in itertools.islice(batches, 3)],
        "labels": labels.tolist(),
        "features": hashlib.md5(found.tobytes()).hexdigest(),
        "rebuilt": [measured.l1, measured.l1_mean_colour, measured.views.shape[0]],
        "key": np.asarray(state.rng).tolist(),
    }


def agree(process):
    job = setup.build(main.parse(TINY)[0])
    agreement = Agreement(job.mesh)
    return {
        "lagging": [agreement.lagging(number) for number in ((0, 0, 0, 0), (0, 15, 0, 2))[process]],
        "now": [agreement.now(number) for number in ((0, 2), (0, 0))[process]],
    }


def differ(process):
    try:
        runtime.check_same("mood", "good")
        runtime.check_same("number", process)
    except UserError as error:
        return str(error)


if __name__ == "__main__":
    coordinator, process, data_dir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    stdout = open(f"{data_dir}-{process}.json", "w")  # noqa: SIM115, PTH123
    with runtime.started(coordinator=coordinator, processes=2, process=process, timeout=60):
        result = measure(data_dir) | agree(process) | {"differ": differ(process), "main": runtime.is_main()}
        json.dump(result, stdout)
        stdout.close()
