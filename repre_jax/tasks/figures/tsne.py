"""Pooled features of a data set on a plane."""

import numpy as np
from matplotlib.figure import Figure

from repre_jax.core.errors import UserError
from repre_jax.data import subset
from repre_jax.evaluation import tsne
from repre_jax.report.figures import tsne as drawing
from repre_jax.tasks.figures.subject import NotPossible, Subject


def draw(subject: Subject) -> Figure:
    """Prints the silhouettes, too. Raises NotPossible without labels, or where they make no two classes."""
    if subject.given:
        raise NotPossible("t-SNE is of a data set's images, with their classes.\n  change:   leave --images out")
    (source, split), wanted = subject.split, subject.config.figures
    if not subject.dataset.classes or not subset.labelled(source):
        raise NotPossible(
            f"The {split} images of {subject.dataset.name} have no labels.\n  change:   --config.data.name, test_split"
        )
    labels = subset.labels_of(source)
    chosen = tsne.choose(labels, classes=wanted.classes, per_class=wanted.per_class, seed=subject.config.seed)
    _check_clusters(labels[chosen])
    features, numbers = subject.features(source, chosen, f"{split} images")
    _check_clusters(labels[numbers])
    classes, places = np.unique(labels[numbers], return_inverse=True)
    try:
        found = tsne.embed(features, places, subject.config.seed)
    except UserError as error:
        raise NotPossible(str(error)) from None
    scores = f"{found.silhouette:.3f} of the features (cosine distance), {found.silhouette_2d:.3f} of the map"
    print(f"Silhouette: {scores}; {len(numbers):,} {split} images of {len(classes)} classes")
    return drawing.draw(
        found.points,
        places,
        subject.names(classes),
        title=f"t-SNE of the {subject.config.feature} feature\n{subject.whose}",
        caption=f"Silhouette score {scores}. {len(numbers):,} {split} images of {subject.dataset.name}, "
        f"{len(classes)} of {subject.dataset.classes:,} classes; axes have no unit.",
    )


def _check_clusters(labels: np.ndarray) -> None:
    """Of the records chosen, or of those that could be read."""
    classes = len(np.unique(labels))
    if not 2 <= classes < len(labels):
        raise NotPossible(
            f"The {len(labels):,} images of {classes:,} classes that were chosen have no clusters.\n"
            "  expected: two classes or more, with two images each\n"
            "  change:   --config.figures.classes, per_class, --config.data.test_split"
        )
