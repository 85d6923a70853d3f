"""S004, chapter 6."""

from __future__ import annotations

from derivations.ledger.row import Row

ROWS: tuple[Row, ...] = ()
