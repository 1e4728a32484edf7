"""The flags --config.KEY=VALUE of a command line, before absl and ml_collections see them."""

import re

from ml_collections import ConfigDict

from repre_jax.core.errors import UserError, meant


def check_keys(argv: list[str], config: ConfigDict) -> None:
    """Raises UserError for the first --config.KEY that the config does not have."""
    for argument in argv:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        key, node = match[1] if match else "", config
        for part in filter(None, key.split(".")):
            if not isinstance(node, ConfigDict) or part not in node:
                known = sorted(node) if isinstance(node, ConfigDict) else []
                raise UserError(
                    f"Unknown key {part!r} in --config.{key}.{meant(part, known)}\n"
                    f"  expected: {', '.join(known) or 'no key below that'}"
                )
            node = node[part]


def typed(argv: list[str]) -> tuple[str, ...]:
    """The keys that the command line sets, sorted."""
    found = (re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv)
    return tuple(sorted({match[1] for match in found if match}))


def last_wins(argv: list[str], config: ConfigDict) -> list[str]:
    """The command line without values of a key that it gives again later: a tuple's would be appended."""
    given: dict[str, list[str]] = {}
    kept: list[list[str]] = []
    waiting = list(argv)
    while waiting:
        words = [waiting.pop(0)]
        match = re.fullmatch(r"--?config\.([^=]+)(=.*)?", words[0], re.DOTALL)
        if match and not match[2] and waiting and not isinstance(_value(config, match[1]), bool):
            words.append(waiting.pop(0))
        if match:
            kept = [each for each in kept if each is not given.get(match[1])]
            given[match[1]] = words
        kept.append(words)
    return [word for words in kept for word in words]


def _value(config: ConfigDict, key: str) -> object:
    node: object = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, ConfigDict) else None
    return node
