"""All mutants: known mistakes first, then further ones of the same families."""

from tests.zoo.base import Mutant
from tests.zoo.known import KNOWN
from tests.zoo.more import MORE
from tests.zoo.not_expressible import NOT_EXPRESSIBLE

MUTANTS: list[Mutant] = [*KNOWN, *MORE]

__all__ = ["MUTANTS", "NOT_EXPRESSIBLE", "Mutant"]
