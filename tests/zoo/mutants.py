"""All mutants: known mistakes first, then further ones of the same families."""

from tests.zoo import (
    chapters_known,
    embeddings,
    own_chains,
    own_guidance,
    own_likelihoods,
    own_losses,
    own_solvers,
    own_steps,
    time_known,
    time_own_flows,
)
from tests.zoo.base import Mutant
from tests.zoo.chapters_own import MORE_CHAPTERS
from tests.zoo.embeddings import MORE_EMBEDDINGS
from tests.zoo.known import KNOWN
from tests.zoo.more import MORE
from tests.zoo.not_expressible import NOT_EXPRESSIBLE
from tests.zoo.time_own import MORE_TIME

# importing these modules registers their mutants
REGISTERED = (
    chapters_known,
    embeddings,
    own_chains,
    own_guidance,
    own_likelihoods,
    own_losses,
    own_solvers,
    own_steps,
    time_known,
    time_own_flows,
)
MUTANTS: list[Mutant] = [*KNOWN, *MORE, *MORE_CHAPTERS, *MORE_TIME, *MORE_EMBEDDINGS]

__all__ = ["MUTANTS", "NOT_EXPRESSIBLE", "Mutant"]
