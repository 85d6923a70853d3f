"""S001: handwritten notes on DDPM and DDIM, without equation numbers; rows count its displayed formulas."""

from __future__ import annotations

from derivations.ledger.checks import Erratum
from derivations.ledger.row import Row

_BARS = "α_t of these notes is the step's share in one line and ᾱ_t, the share kept from data, in another"

ROWS = (
    Row(
        "S001:/1",
        "formula",
        "The law of x_t given data has mean √ᾱ_t x_0 and variance 1 − ᾱ_t.",
        Erratum("ddpm.marginal", "bars-missing"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\,(1-\bar\alpha_t)I\right)",
        printed=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\alpha_t}\,x_0,\,(1-\alpha_t)I\right)",
        severity="breaks",
        origin="author",
        effect="Read with the α_t of one step, the noised data keep nearly all of the signal at every t.",
        notation=_BARS,
    ),
)
