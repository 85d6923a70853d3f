r"""UniPC: a predictor and a corrector that share the values of the model.

The predictor UniP-p uses p values at levels visited before. The model is asked once at the predicted state,
and the corrector UniC-p repeats the step with that value as one more node: its order is p + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from refdiff import _check
from refdiff._solver_base import Levels, Model, Past
from refdiff._solver_exponential import Exponential, advance, remember


@dataclass(frozen=True)
class UniPC(Exponential):
    """Predictor and corrector on the same nodes, one evaluation of the model in a step.

    The value at the predicted state serves the corrector and the next step. The last step has no corrector,
    which would need one more evaluation.

    Args:
        nodes: p, the number of values that the predictor uses, 1 to 3.
        corrector: without it, UniP-p alone, of order p.
        lower_order_final: the last steps use one value less each.

    Reference: Zhao et al. 2023 (UniPC), algorithms 1 and 2 (formulas ``solver.unip_2``, ``solver.unic_1``,
        ``solver.unic_2``, ``solver.unic_3_error``).
    """

    nodes: int = 2
    corrector: bool = True
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.count("nodes", self.nodes)
        if self.eta:
            raise ValueError(f"eta must be 0 for UniPC, got {self.eta}")

    @property
    def history(self) -> int:  # type: ignore[override]
        """States before the first level that its step can use."""
        return self.nodes - 1

    @property
    def cold_order(self) -> int:
        """The first step has one node, and an error of h², or h³ with the corrector."""
        return min(self.order, 2 + self.corrector)

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        known = remember(self, model, past, self.history)
        for index, (t, s) in enumerate(levels.pairs()):
            if index == 0:
                known = [(t.numbers.log_snr, self.ask(model, x, t)), *known]
            left = levels.steps - index
            used = known[: min(self.nodes, left) if self.lower_order_final else self.nodes]
            if s.clean:
                yield self.onto_data(x, used[0][1], t, s)
                return
            at, start = self.frame(t, s), t.numbers.log_snr
            places = [(place - start) / at.h for place, _ in used]
            outputs = [value for _, value in used]
            predicted = advance(at, x, outputs, places, self.kind)
            if left == 1:
                yield predicted
                return
            output = self.ask(model, predicted, s)
            known = [(s.numbers.log_snr, output), *known][: self.nodes]
            nodes = [*places, 1.0]
            x = advance(at, x, [*outputs, output], nodes, self.kind) if self.corrector else predicted
            yield x
