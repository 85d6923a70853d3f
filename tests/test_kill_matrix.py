"""Every mutant of the zoo is failed, and the family of its mistake is named.

The matrix itself (id, family, failing checks, diagnosed families) is printed at the end of the run.
"""

import pytest

from refdiff.oracle import Target, check
from tests.zoo.base import Ancestral, Mutant, Textbook
from tests.zoo.known import KNOWN, LearnedRange, PredictsX0, SigmaSpace
from tests.zoo.more import LargeVariance, PredictsV
from tests.zoo.mutants import MUTANTS, NOT_EXPRESSIBLE

ENTRIES = 110
ORIGINALS = (Textbook, Ancestral, LearnedRange, PredictsX0, SigmaSpace, LargeVariance, PredictsV)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_is_failed_and_its_mistake_is_named(mutant: Mutant, record_property):
    report = check(mutant.make())
    failing = [result.id for result in report.failures]
    record_property("kill", [mutant.id, mutant.family, report.ok, failing, list(report.families)])
    assert not report.ok, "survived"
    assert {mutant.family, *mutant.accepted} & set(report.families), str(report)


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.__name__)
def test_what_the_mutants_are_made_from_passes(original: type[Target]):
    report = check(original())
    assert report.ok, str(report)


def test_every_entry_is_a_mutant_or_has_a_reason():
    mutants = {mutant.id for mutant in KNOWN}
    assert len(mutants) == len(KNOWN)
    assert mutants.isdisjoint(NOT_EXPRESSIBLE)
    assert len(mutants) + len(NOT_EXPRESSIBLE) == ENTRIES
    assert all(NOT_EXPRESSIBLE.values())


def test_ids_are_unique():
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)
