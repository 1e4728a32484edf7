"""What devices send each other, read from a compiled program."""

import math
import re
from collections import Counter

from benchmarks.collectives import CALL


def collectives(text):
    """{operation: Counter of the shapes that it makes} in compiled HLO."""
    found = {}
    for line in text.splitlines():
        if call := CALL.search(line):
            shapes = [tuple(map(int, filter(None, s.split(",")))) for s in re.findall(r"\w+\[([\d,]*)\]", call[1])]
            found.setdefault(call[2], Counter()).update(shapes)
    return found


def sizes(shapes):
    """How often each number of elements occurs among shapes, scalars left out."""
    counted = Counter()
    for shape, count in shapes.items():
        counted[math.prod(shape)] += count
    del counted[1]
    return counted
