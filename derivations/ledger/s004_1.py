"""S004, chapter 1."""

from __future__ import annotations

from derivations.ledger.row import Row

ROWS: tuple[Row, ...] = ()
