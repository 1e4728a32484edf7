"""What numpy.random.default_rng draws of many seeds that end in a number, all at once.

A generator for each record takes 0.02 ms to make and some 0.003 ms a draw, which for all records of a large data set
are seconds. The algorithms are fixed and public: SeedSequence (numpy/random/bit_generator.pyx), PCG64 (M. O'Neill,
PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation, 2014) and
Lemire's bounded integers.
"""

from collections.abc import Sequence

import numpy as np

POOL = 4  # words that a seed is mixed into
LOW = np.uint64(0xFFFFFFFF)
MULTIPLIER = (np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645))  # of PCG64: its high and its low half
Wide = tuple[np.ndarray, np.ndarray]  # 128 bits as uint64, the high half first


class ManyDraws:
    """default_rng((*seed, number)) of each of `count` numbers from 0 on, for one draw after another of all of them.

    strayed: bool [count], whose draw would have been repeated, some in 10 million: what is drawn for them from then on
    is not what NumPy draws.
    """

    def __init__(self, seed: Sequence[int], count: int):
        """seed: integers from 0 on. count: up to 2**32."""
        self.strayed = np.zeros(count, bool)
        self._half = np.zeros(count, np.uint64)  # of a word, for the next integer
        self._kept = np.zeros(count, bool)
        words: list[np.ndarray] = [np.asarray(word, np.uint32) for part in seed for word in _words(part)]
        high, low, *inc = _state([*words, np.arange(count, dtype=np.uint32)], count)
        self._inc = inc[0] << np.uint64(1) | inc[1] >> np.uint64(63), inc[1] << np.uint64(1) | np.uint64(1)
        self._state = _sum(self._inc, (high, low))
        self._state = self._stepped()

    def random(self) -> np.ndarray:
        """float64 [count] in 0..1: Generator.random()."""
        return (self._next(np.ones(len(self.strayed), bool)) >> np.uint64(11)) * 2.0**-53

    def integers(self, high: np.ndarray | int, drawn: np.ndarray) -> np.ndarray:
        """int64 [count] in 0..high - 1: Generator.integers(high), 0 and no draw where not `drawn`, bool [count].

        high: int [count], or one of all, from 1 up to 2**32 - 1.
        """
        bound = np.broadcast_to(high, drawn.shape).astype(np.uint64)
        drawn = drawn & (bound > 1)  # of one there is nothing to draw
        fresh = drawn & ~self._kept
        word = self._next(fresh)
        half = np.where(fresh, word & LOW, self._half)
        self._half = np.where(fresh, word >> np.uint64(32), self._half)
        self._kept ^= drawn
        product = half * bound
        self.strayed |= drawn & ((product & LOW) < (np.uint64(2**32) - bound) % bound)
        return np.where(drawn, product >> np.uint64(32), np.uint64(0)).astype(np.int64)

    def _next(self, some: np.ndarray) -> np.ndarray:
        """The next word of each, uint64 [count]; those that are not of `some` stay where they are."""
        stepped = self._stepped()
        self._state = np.where(some, stepped[0], self._state[0]), np.where(some, stepped[1], self._state[1])
        high, low = stepped
        mixed, turn = high ^ low, high >> np.uint64(58)
        return mixed >> turn | mixed << (np.uint64(64) - turn & np.uint64(63))

    def _stepped(self) -> Wide:
        high, low = _product(self._state[1], MULTIPLIER[1])
        high = high + self._state[0] * MULTIPLIER[1] + self._state[1] * MULTIPLIER[0]
        return _sum((high, low), self._inc)


def _words(number: int) -> list[int]:
    """Of 32 bits, the lowest first."""
    words = [number & 0xFFFFFFFF]
    while number := number >> 32:
        words.append(number & 0xFFFFFFFF)
    return words


class _Hash:
    """SeedSequence's, which multiplies by another constant each time."""

    def __init__(self, constant: int, multiplier: int):
        self.constant, self.multiplier = constant, multiplier

    def __call__(self, value: np.ndarray) -> np.ndarray:
        value = value ^ np.uint32(self.constant)
        self.constant = self.constant * self.multiplier & 0xFFFFFFFF
        value = value * np.uint32(self.constant)
        return value ^ value >> np.uint32(16)


def _state(words: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """SeedSequence(words).generate_state(4, np.uint64), each uint64 [count]. words: uint32, of one or of all."""
    words = [np.broadcast_to(word, count) for word in words]
    words += [np.zeros(count, np.uint32)] * (POOL - len(words))
    hashed = _Hash(0x43B0D7E5, 0x931E8875)

    def mixed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.uint32(0xCA01F9DD) * x - np.uint32(0x4973F715) * y
        return found ^ found >> np.uint32(16)

    pool = [hashed(word) for word in words[:POOL]]
    for source in range(POOL):
        for place in (place for place in range(POOL) if place != source):
            pool[place] = mixed(pool[place], hashed(pool[source]))
    for word in words[POOL:]:
        pool = [mixed(value, hashed(word)) for value in pool]
    hashed = _Hash(0x8B51F9DD, 0x58F38DED)
    parts = [hashed(pool[number % POOL]).astype(np.uint64) for number in range(8)]
    return [low | high << np.uint64(32) for low, high in zip(parts[::2], parts[1::2], strict=True)]


def _sum(a: Wide, b: Wide) -> Wide:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < b[1]), low


def _product(a: np.ndarray, b: np.uint64) -> Wide:
    """Of 64 bits each, all 128 of it."""
    half = np.uint64(32)
    a_high, a_low, b_high, b_low = a >> half, a & LOW, b >> half, b & LOW
    low, first, second = a_low * b_low, a_high * b_low, a_low * b_high
    middle = (low >> half) + (first & LOW) + (second & LOW)
    return a_high * b_high + (first >> half) + (second >> half) + (middle >> half), middle << half | low & LOW
