"""DINO's weighted k-nearest-neighbour vote (dino eval_knn.py:146-196), for any number of records.

Queries are split over the devices; the bank of labelled features passes by in chunks, a copy on each device, and each
query keeps the most similar records so far. Neither the bank nor all queries are ever whole on a device.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from repre_jax.core.sharding import along_batch, copy_to_each, replicated, shard_batch

TEMPERATURE = 0.07
QUERIES = 4096  # at a time on a device, and
BANK = 16_384  # records that they are compared with at once: similarities of 268 MB

Neighbours = tuple[jax.Array, jax.Array]


def nearer(found: Neighbours, queries: jax.Array, bank: jax.Array, labels: jax.Array, count: jax.Array) -> Neighbours:
    """The nearest records so far, and another chunk of the bank -> the nearest of both.

    found: cosine similarities float32 [Q, k], largest first, and labels int32 [Q, k]. queries: [Q, D]. bank: [M, D] and
    labels: int32 [M], of which the first `count` rows are records. Of equally near ones the earlier record comes first,
    as in jax.lax.top_k of the whole bank.
    """
    similarity, known = found
    k = similarity.shape[1]
    cosines = jnp.matmul(_unit(queries), _unit(bank).T, precision="highest")
    cosines = jnp.where(jnp.arange(len(bank)) < count, cosines, -jnp.inf)
    values, places = jax.lax.top_k(cosines, min(k, len(bank)))
    known = jnp.concatenate([known, labels[places]], axis=1)
    similarity, places = jax.lax.top_k(jnp.concatenate([similarity, values], axis=1), k)
    return similarity, jnp.take_along_axis(known, places, axis=1)


def vote(found: Neighbours, *, classes: int, ks: Sequence[int], temperature: float) -> list[jax.Array]:
    """The predicted classes, int32 [Q], for each of `ks`, which rise.

    Each of the k nearest records votes for its class with weight exp(cosine / temperature), here relative to the
    nearest one's, which changes no winner and cannot overflow.
    """
    similarity, labels = found
    weights = jnp.exp((similarity - similarity[:, :1]) / temperature)

    def count(place: jax.Array, votes: jax.Array) -> jax.Array:
        return votes + jax.nn.one_hot(labels[:, place], classes, dtype=weights.dtype) * weights[:, place, None]

    votes, winners = jnp.zeros((len(labels), classes), weights.dtype), []
    for before, k in zip([0, *ks], ks, strict=False):
        votes = jax.lax.fori_loop(before, k, count, votes)
        winners.append(votes.argmax(axis=-1).astype(jnp.int32))
    return winners


def accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    classes: int,
    ks: Sequence[int],
    mesh: Mesh,
    temperature: float = TEMPERATURE,
    before_chunk: Callable[[float], None] = lambda done: None,
) -> dict[int, float]:
    """Accuracy of the vote of the train records on the test records, for each k, 0..1.

    features: [records, D], of any length above 0. labels: int [records]. They may lie in files (np.memmap), and are the
    same in every process. Where k is beyond the number of train records, all of them vote.
    before_chunk: called before each chunk of comparisons, with the number of test records that are done, a fraction
    where some are compared with a part of the train records; may raise, to stop.
    """
    asked = {k: min(k, len(train_features)) for k in ks}
    ks = tuple(sorted(set(asked.values())))
    decide, correct, start = _decide(mesh, classes, ks, temperature), np.zeros(len(ks), np.int64), 0
    for count, found in _passes(train_features, train_labels, test_features, ks[-1], mesh, before_chunk):
        answers = np.asarray(test_labels[start : start + count])
        correct += [(np.asarray(winners)[:count] == answers).sum() for winners in decide(found)]
        start += count
    accuracies = {k: float(count / len(test_features)) for k, count in zip(ks, correct, strict=True)}
    return {k: accuracies[cut] for k, cut in sorted(asked.items())}


def nearest(
    train_features: np.ndarray, test_features: np.ndarray, *, k: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """The k train records, or all of fewer, that are nearest to each test record, as `accuracy` lets them vote: cosine
    similarities float32 [Q, k], largest first, and places in the bank int32 [Q, k]. In one process."""
    k, places = min(k, len(train_features)), np.arange(len(train_features))
    passes = _passes(train_features, places, test_features, k, mesh, lambda done: None)
    found = [[np.asarray(part)[:count] for part in both] for count, both in passes]
    similarity, places = zip(*found, strict=True)
    return np.concatenate(similarity), np.concatenate(places)


def _passes(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    k: int,
    mesh: Mesh,
    before_chunk: Callable[[float], None],
) -> Iterator[tuple[int, Neighbours]]:
    """Yields (number of valid queries, neighbours split over the devices) for one group of test records after another;
    trailing padding rows are meaningless."""
    rows = _even(min(QUERIES * mesh.size, len(test_features)), mesh.size)
    compare = _on_each(mesh)
    for start in range(0, len(test_features), rows):
        count = min(rows, len(test_features) - start)
        nobody = np.full((rows, k), -np.inf, np.float32), np.zeros((rows, k), np.int32)
        queries, *found = shard_batch([_mine(x) for x in (_filled(test_features, start, rows), *nobody)], mesh)
        for passed, chunk in _chunks(train_features, train_labels):
            before_chunk(start + count * passed)
            jax.block_until_ready(found)  # else the host would copy chunk after chunk to the devices meanwhile
            found = compare(tuple(found), queries, *copy_to_each(chunk, mesh))
        yield count, tuple(found)


@functools.cache
def _on_each(mesh: Mesh) -> Callable:
    """`nearer` of each device's own queries. Left to itself XLA gathers all similarities on each device for top_k."""
    rows, whole = along_batch(mesh).spec, replicated(mesh).spec
    specs = ((rows, rows), rows, whole, whole, whole)
    return jax.jit(jax.shard_map(nearer, mesh=mesh, in_specs=specs, out_specs=(rows, rows)), donate_argnums=0)


@functools.cache
def _decide(mesh: Mesh, classes: int, ks: tuple[int, ...], temperature: float) -> Callable:
    decide = functools.partial(vote, classes=classes, ks=ks, temperature=temperature)
    return jax.jit(decide, out_shardings=replicated(mesh))


def _chunks(features: np.ndarray, labels: np.ndarray) -> Iterator[tuple[float, tuple]]:
    """The share of all that went before, and (features [M, D], labels [M], int32, how many of the M rows are records),
    of the same shapes each time."""
    rows = min(BANK, len(features))
    for start in range(0, len(features), rows):
        count = np.int32(min(rows, len(features) - start))
        chunk = _filled(features, start, rows), _filled(labels, start, rows).astype(np.int32), count
        yield start / len(features), chunk


def _filled(array: np.ndarray, start: int, rows: int) -> np.ndarray:
    """`rows` rows from `start` on, zeros beyond the last; features become float32."""
    some = np.asarray(array[start : start + rows])
    some = some if some.ndim == 1 else some.astype(np.float32, copy=False)
    return np.pad(some, ((0, rows - len(some)), *((0, 0),) * (some.ndim - 1))) if len(some) < rows else some


def _unit(features: jax.Array) -> jax.Array:
    return features / jnp.maximum(jnp.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _mine(rows: np.ndarray) -> np.ndarray:
    """This process's share of a global batch."""
    return np.split(rows, jax.process_count())[jax.process_index()]


def _even(count: int, parts: int) -> int:
    """The next multiple of `parts`."""
    return -(-count // parts) * parts
