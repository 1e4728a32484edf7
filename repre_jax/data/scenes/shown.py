"""Which concepts each split of scenes/dense shows, and how far those of `unseen` are from everything else.

`unseen` asks whether a thing is found that nobody was shown. Another concept is not enough for that: a beer mug beside
clinking beer mugs, or one yellow face beside another, is found by whoever knows the other one. So what `unseen` shows
is told apart from what train of scenes/dense and scenes/objects show by what it is made of, by its name and by sight.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from repre_jax.data.scenes import concepts, object_canvases
from repre_jax.data.scenes.concepts import Concept

SEEN = 60  # concepts of each category that train and test show; each is shown some 20 times
UNSEEN = 30  # others of each, at most, which only the split `unseen` shows
TELLING = 12  # concepts, at most, whose names have a word that tells what they show: 'wheelchair', but not 'face'
# RMS between two pictures of 24 x 24 pixels, premultiplied RGBA in 0..1, mirrored or not. Pairs below it are yellow
# faces, signs of one colour, the same thing with a flake or a stroke more, and other such variants; those above it are
# mostly different things of like colour and outline. tests/test_scenes_unseen.py measures what stands below.
NEAR = 0.18
# What would be next in `unseen`, but has a picture nearer than this to one of train.
LOOKALIKES = frozenset(
    (
        *("anguished face", "astonished face", "confused face", "drooling face", "face exhaling"),
        *("face throwing a kiss", "face with diagonal mouth", "face with head-bandage", "face with pleading eyes"),
        *("face with rolling eyes", "flushed face", "freezing face", "frowning face", "frowning face with open mouth"),
        *("grimacing face", "hushed face", "nerd face", "pensive face", "persevering face", "sleepy face"),
        *("smiling face with smiling eyes", "thinking face", "unamused face", "upside-down face", "winking face"),
        *("zipper-mouth face", "bath", "face palm", "man in tuxedo", "man with gua pi mao", "palms up together"),
        *("person frowning", "person with crown", "pinching hand", "student", "coin", "izakaya lantern"),
        *("notebook with decorative cover", "optical disc", "antenna with bars", "atom symbol", "cancer", "cinema"),
        *("copyright sign", "female sign", "hash key", "heavy minus sign", "heavy plus sign", "keycap: *", "khanda"),
        *("leo", "ophiuchus", "peace symbol", "radioactive", "sagittarius", "six pointed star with middle dot"),
        *("sparkle", "squared id", "squared ng", "star and crescent", "star of david", "taurus", "transgender symbol"),
        *("twisted rightwards arrows", "virgo", "white heavy check mark", "yin yang"),
    )
)
PLAIN = concepts.GENDER | concepts.SKIN | concepts.PERSONS | concepts.HAIR | {concepts.JOINER, concepts.VARIATION}


def of_split(split: str) -> dict[int, tuple[Concept, ...]]:
    """Category id -> the concepts of 'train', 'test' (the same) or 'unseen', in the order of their names."""
    return _unseen() if split == "unseen" else _seen()


@functools.cache
def _seen() -> dict[int, tuple[Concept, ...]]:
    return {identity: tuple(sorted(_order(name)[:SEEN], key=_name)) for identity, name in concepts.CATEGORIES.items()}


@functools.cache
def _unseen() -> dict[int, tuple[Concept, ...]]:
    """The first ones after those of train that have nothing of it; of some categories there are fewer than UNSEEN."""
    known = of_train()
    codes, words = made_of(known), _words(known) & telling_words()
    found = {}
    for identity, name in concepts.CATEGORIES.items():
        apart = [
            concept
            for concept in _order(name)[SEEN:]
            if concept not in known and not made_of([concept]) & codes and not _words([concept]) & words
        ]
        chosen = [concept for concept in apart if concept.name not in LOOKALIKES][:UNSEEN]
        found[identity] = tuple(sorted(chosen, key=_name))
    return found


def of_train() -> list[Concept]:
    """Whatever train of scenes/dense or scenes/objects shows."""
    known = [concept for found in _seen().values() for concept in found]
    classes = [concept for concept in concepts.all_concepts() if concept.name in object_canvases.CLASSES]
    return known + [concept for concept in classes if concept not in known]


@functools.cache
def telling_words() -> frozenset[str]:
    """Words in the names of few concepts."""
    counts = Counter(word for concept in concepts.all_concepts() for word in _words([concept]))
    return frozenset(word for word, count in counts.items() if count <= TELLING)


def _order(category: str) -> list[Concept]:
    """A category's concepts as chance has put them."""
    known = [concept for concept in concepts.all_concepts() if concept.category == category]
    return [known[place] for place in np.random.default_rng(0).permutation(len(known))]


def made_of(known: Iterable[Concept]) -> set[str]:
    """Code points of their pictures, which a wheelchair shares with the person in it."""
    return {part for concept in known for file in concept.files for part in file.split("-")} - PLAIN


def _words(known: Iterable[Concept]) -> set[str]:
    words = {word for concept in known for word in re.findall("[a-z0-9]+", concept.name)}
    return {word for word in words if not concepts.SAME.fullmatch(word) and not concepts.PERSON_WORDS.fullmatch(word)}


def _name(concept: Concept) -> str:
    return concept.name
