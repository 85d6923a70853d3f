"""S004, chapter 8: score models through SDEs. Its rows are in two modules."""

from __future__ import annotations

from derivations.ledger import s004_8a, s004_8b
from derivations.ledger.row import Row

ROWS: tuple[Row, ...] = s004_8a.ROWS + s004_8b.ROWS
