"""The export of a run, by the command, and what it has written."""

import json

from repre_jax.tools import export


def exported(run, *arguments):
    """(file, card) of a run that has no other export."""
    assert export.main([str(run), *arguments]) == 0
    (card,) = (run / "export").glob("*.json")
    return card.with_suffix(""), json.loads(card.read_text())
