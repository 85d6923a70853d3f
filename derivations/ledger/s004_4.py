"""S004, chapter 4."""

from __future__ import annotations

from derivations.ledger.row import Row

ROWS: tuple[Row, ...] = ()
