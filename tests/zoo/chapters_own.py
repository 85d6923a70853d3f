"""Further mutants of energies, scores, likelihoods and guidance: realistic mistakes that are on no list."""

from typing import Any

from tests.zoo.base import Registry, dialect
from tests.zoo.chapters import alone

MORE_CHAPTERS = Registry()


def own(
    id: str, family: str, topic: type, *also: str, spoken: dict[str, Any] | None = None, **methods: Any
) -> None:
    """A mutant of a topic, some of its methods being wrong."""
    changes = {"dialect": dialect(**spoken)} if spoken else {}
    cls = type(id.title().replace("-", ""), (alone(topic),), methods | changes)
    MORE_CHAPTERS(f"own-{id}", family, *also)(cls)


def rows(value, x):
    return value.reshape(-1, *[1] * (x.dim() - 1))
