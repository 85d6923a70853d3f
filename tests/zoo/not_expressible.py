"""Entries of the list of known mistakes that the ports of Target cannot express, with the reason of each.

All entries of the kinds that the foundation covers (schedule, index, variance, sqrt, sign, parameterization,
noise-at-t0, precision) are either here or among the mutants. Of the other kinds the mutants hold those that
the ports can express, and the rest is here too.
"""

_INPAINT = "a known region or a reference image inside the loop: sample() takes a model and x_T only"
_TRAINER = "the training loop around the loss (batches, optimiser, options): loss() is one term per sample"
_NET = "inside the network: the model is the caller's"

NOT_EXPRESSIBLE = {
    "SCH-17": "the declared schedule itself leaves (0, 1): there is nothing right to compare with, and the "
    "reference refuses to build it",
    "SCH-23": "a ratio of an editing recipe outside the sampler",
    "IDX-16": _INPAINT,
    "IDX-19": _INPAINT,
    "VAR-12": "the model is wrong, not the sampler: the model is the caller's",
    "PAR-10": "another basis in the corrector is caught as a lower order, and named so",
    "PRC-06": "a Brownian tree over continuous sigma: the ports take standard normals",
    "PRC-13": _TRAINER,
    "DSC-11": "guidance inside a solver: solve() takes one model",
    "DSC-20": _INPAINT,
    "LWT-03": _TRAINER,
    "GUI-11": "statistics of a data set: normalize_data is given the scale that the dialect declares",
    "SCL-05": _NET,
    "STA-05": _NET,
    "STA-07": "options of a program around the sampler: no port has them",
}
