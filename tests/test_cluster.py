"""Which launcher started this process, as one of how many: by the variables alone, since none of them is here."""

import os

import pytest

from repre_jax.core.errors import UserError
from repre_jax.system import cluster

SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "node[007-008],x", "SLURM_NTASKS": "4", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip
OMPI = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),  # batch script
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # salloc's shell, srun -n1
        (SLURM, cluster.Place("deactivate", 4, 3, "node007:61517", 1)),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, cluster.Place("deactivate", 4, 3, "node007:61517", None)),
        (OMPI, cluster.Place("deactivate", 2, 1, "10.96.0.1:62624", None)),
        (OMPI | SLURM, cluster.Place("deactivate", 2, 1, "10.96.0.1:62624", None)),
        (OMPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ],
)
def test_a_launcher_is_found_where_there_is_one(environment, expected, monkeypatch):
    for name, value in environment.items():  # JAX reads the real one
        monkeypatch.setenv(name, value)
    assert cluster.find(None, None, None, os.environ, 1) == expected


def test_flags_that_do_not_fit_are_refused():
    assert cluster.find("a:1", 1, 0, {}, 1) is None
    assert cluster.find("localhost:1", 2, 0, {}, 1).coordinator == "localhost:1"
    for flags, environment, words in (
        (("a:1", None, 0), {}, "distributed.processes is not set"),
        (("a:1", 2, 2), {}, "distributed.process is 2 of 2"),
        (("localhost:1", 4, 0), SLURM, "every host takes for itself"),
        (("127.0.0.1:1", 2, 0), OMPI, "every host takes for itself"),
        ((None, None, None), {"OMPI_COMM_WORLD_SIZE": "2"}, "pip install mpi4py"),
        ((None, None, None), {"PMI_SIZE": "2"}, "pip install mpi4py"),
    ):
        with pytest.raises(UserError, match=words):
            cluster.find(*flags, environment, 1)
