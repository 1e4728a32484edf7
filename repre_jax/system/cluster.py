"""Whether this is one process of many, and where: said by flags, or found in the environment as JAX finds it.

JAX's own detection (jax/_src/clusters) is asked only where a launcher says that there are several processes: a plain
`python main.py` in a batch script or in an allocation's shell stays one process.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from repre_jax.core.errors import UserError
from repre_jax.system import terminal

FLAGS = "--config.distributed.coordinator=HOST:PORT --config.distributed.processes=N --config.distributed.process=I"
LOOPBACK = ("localhost", "127.", "[::1]", "::1")
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")  # what JAX needs


@dataclass(frozen=True)
class Place:
    """One of `processes`. coordinator: HOST:PORT of process 0; None on TPU pods, which know it themselves.

    method: jax.distributed's name for where this was found. local_device: the only one that is this process's.
    """

    method: str
    processes: int | None = None
    process: int | None = None
    coordinator: str | None = None
    local_device: int | None = None


def find(
    coordinator: str | None, processes: int | None, process: int | None, environment: Mapping[str, str], timeout: int
) -> Place | None:
    """This process's place, None when it is the only one. Raises UserError for flags that do not fit together."""
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if coordinator is not None and processes is not None and process is not None:
        _check(coordinator, processes, process, environment)
        return Place("deactivate", processes, process, coordinator) if processes > 1 else None
    if len(missing) < len(given):
        raise UserError(
            f"distributed.{' and distributed.'.join(missing)} is not set, but the rest of the three is.\n"
            f"  expected: {FLAGS}, or none of them under srun, mpirun or on a TPU pod"
        )
    method = launcher(environment)
    return None if method is None else _ask_jax(method, environment, timeout)


def launcher(environment: Mapping[str, str]) -> str | None:
    """JAX's name for what started several processes: 'ompi', 'slurm', 'mpi4py', 'gketpu' or 'gcetpu'; else None.

    Raises UserError when it cannot be used.
    """
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:  # before SLURM: mpirun may have been started by srun
        return "ompi" if "OMPI_MCA_orte_hnp_uri" in environment else _mpi4py("OMPI_COMM_WORLD", "_SIZE", "_RANK")
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and all(name in environment for name in SLURM):
        return "slurm"  # the step's number, since SLURM_NTASKS is set in a batch script and in a shell, too
    if int(environment.get("PMI_SIZE", 1)) > 1:  # MPICH, Intel MPI
        return _mpi4py("PMI", "_SIZE", "_RANK")
    platforms = environment.get("JAX_PLATFORMS", "tpu")
    return _tpu_pod() if "tpu" in platforms else None


def nodes(environment: Mapping[str, str]) -> bool:
    """Whether the environment says that the processes of this run are on more than one host."""
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", 10**9)):
        return True
    return int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and int(environment.get("SLURM_STEP_NUM_NODES", 1)) > 1


def _check(coordinator: str, processes: int, process: int, environment: Mapping[str, str]) -> None:
    if processes < 1 or not 0 <= process < processes:
        raise UserError(
            f"distributed.process is {process} of {processes}.\n"
            f"  expected: a number from 0 to {max(processes, 1) - 1}, another one in each process\n"
            "  change:   --config.distributed.process=..."
        )
    if coordinator.startswith(LOOPBACK) and nodes(environment):
        raise UserError(
            f"distributed.coordinator is {coordinator}, which every host takes for itself, but the processes are on "
            "several hosts.\n"
            "  expected: the name or address of process 0's host, and a port\n"
            "  change:   --config.distributed.coordinator=HOST:PORT"
        )


def _mpi4py(prefix: str, size: str, rank: str) -> str:
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        raise UserError(
            "MPI started several processes, but does not say where process 0 is.\n"
            "  change:   pip install mpi4py, which JAX then asks; or in each process\n"
            "            --config.distributed.coordinator=HOST:PORT "
            f"--config.distributed.processes=${prefix}{size} --config.distributed.process=${prefix}{rank}"
        ) from None
    return "mpi4py"


def _tpu_pod() -> str | None:
    """Whether this is a host of a TPU pod, as JAX finds out. A TPU finds its pod by itself, should this fail."""
    from jax._src import clusters

    for cluster in (clusters.GkeTpuCluster, clusters.GceTpuCluster):
        try:
            if cluster.is_env_present() and cluster.get_process_count() > 1:
                return cluster.name
        except Exception as error:  # no metadata server
            terminal.warn(f"Warning: is this a TPU pod? {type(error).__name__}: {error}")
    return None


def _ask_jax(method: str, environment: Mapping[str, str], timeout: int) -> Place:
    """The parameters that jax.distributed.initialize would find; found here to know whom to wait for."""
    from jax._src import clusters

    if "tpu" in method:
        return Place(method)
    cluster = next(known for known in clusters.ClusterEnv._cluster_types if known.name == method)
    coordinator = environment.get("JAX_COORDINATOR_ADDRESS") or cluster.get_coordinator_address(
        timeout_secs=timeout, override_coordinator_port=environment.get("JAX_COORDINATOR_PORT")
    )
    # JAX would give a process one device, also where it is alone on its host.
    shared = "JAX_LOCAL_DEVICE_IDS" not in environment and not _alone(environment)
    return Place(
        "deactivate",
        cluster.get_process_count(),
        cluster.get_process_id(),
        coordinator,
        cluster.get_local_process_id() if shared else None,
    )


def _alone(environment: Mapping[str, str]) -> bool:
    """Whether the launcher says that there is one process a host."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in environment:
        return environment["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1"
    return re.fullmatch(r"1(\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")) is not None
