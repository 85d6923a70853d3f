"""The networks by definition: NumPy over floats, balls, derivatives and rounding bounds; no torch.

``layers`` has the layers, ``models`` puts them together and gives them weights, ``scalars`` has the numbers.
"""

from derivations.networks.layers import Layers
from derivations.networks.models import NETWORKS, completed, shapes, weight_values
from derivations.networks.scalars import Dual, Tape, Trace, Variable, array, ball, ball_direction

__all__ = [
    "NETWORKS",
    "Dual",
    "Layers",
    "Tape",
    "Trace",
    "Variable",
    "array",
    "ball",
    "ball_direction",
    "completed",
    "shapes",
    "weight_values",
]
