"""The machinery of proofs: formulas, steps, provers, verdicts."""

from derivations.kit.formula import Decoy, Formula, FormulaError, Registry, Report, formula
from derivations.kit.steps import (
    DensityEqual,
    Enumeration,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Integral,
    LogDensity,
    NotCovered,
    Positive,
    Series,
    Step,
    Substitution,
    Zero,
    normal,
)
from derivations.kit.verdict import Verdict

__all__ = [
    "Decoy", "DensityEqual", "Enumeration", "Expectation", "Formula", "FormulaError", "Identity", "Induction",
    "Inequality", "Integral", "LogDensity", "NotCovered", "Positive", "Registry", "Report", "Series", "Step",
    "Substitution", "Verdict", "Zero", "formula", "normal",
]  # fmt: skip
