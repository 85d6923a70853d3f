"""Entries of the list of known mistakes that the ports of Target cannot express, with the reason of each.

All entries of the kinds that the foundation covers (schedule, index, variance, sqrt, sign, parameterization,
noise-at-t0, precision) are either here or among the mutants. Of the other kinds the mutants hold those that
the ports can express, and the rest is here too.
"""

_FLOW = "a flow-matching path or its time shift: no port has one"
_SDE = "the drift or score of a continuous SDE: no port has one"
_HIGHER = "a solver of higher order or with memory: the ports hold one-step updates"
_CHURN = "a sampler in sigma with churn or restarts: its list of levels is not a schedule's"
_INPAINT = "a known region or a reference image inside the loop: sample() takes a model and x_T only"
_TRAINER = "the training loop around the loss (batches, optimiser, options): loss() is one term per sample"
_NET = "inside the network or its time embedding: the model is the caller's"

NOT_EXPRESSIBLE = {
    "SCH-11": _FLOW,
    "SCH-17": "the declared schedule itself leaves (0, 1): there is nothing right to compare with, and the "
    "reference refuses to build it",
    "SCH-19": "a map from sigma to a continuous model time: levels of the ports are whole numbers",
    "SCH-21": "a learned schedule: the dialect declares a fixed one",
    "SCH-23": "a ratio of an editing recipe outside the sampler",
    "SCH-25": _SDE,
    "IDX-16": _INPAINT,
    "IDX-19": _INPAINT,
    "IDX-21": _HIGHER,
    "IDX-27": _SDE,
    "VAR-12": "the model is wrong, not the sampler: the model is the caller's",
    "SGN-06": _FLOW,
    "SGN-12": _FLOW,
    "PAR-03": _HIGHER,
    "PAR-10": _HIGHER,
    "T0-03": "a consistency model's multistep sampler: it adds noise to a chosen level after each x_0",
    "T0-09": _HIGHER,
    "PRC-06": "a Brownian tree over continuous sigma: the ports take standard normals",
    "PRC-09": "a level of conditioning noise given to the network: no port has one",
    "PRC-11": "an inverse SDE step: ddim_invert is deterministic",
    "PRC-13": _TRAINER,
    "DSC-03": _HIGHER,
    "DSC-05": _HIGHER,
    "DSC-07": _CHURN,
    "DSC-09": _CHURN,
    "DSC-11": _HIGHER,
    "DSC-14": _HIGHER,
    "DSC-16": _SDE,
    "DSC-18": _SDE,
    "DSC-20": _INPAINT,
    "LWT-03": _TRAINER,
    "LWT-15": _FLOW,
    "LWT-17": _FLOW,
    "GUI-11": "statistics of a data set: normalize_data is given the scale that the dialect declares",
    "LIK-03": "an ODE's log-determinant: no port has one",
    "TEM-01": _NET,
    "TEM-03": _NET,
    "TEM-05": _NET,
    "TEM-07": _NET,
    "SCL-05": _NET,
    "STA-03": "a coupling of noise and data across the batch: loss() is given the noise",
    "STA-05": _NET,
    "STA-07": "options of a program around the sampler: no port has them",
    "STA-09": _HIGHER,
}
