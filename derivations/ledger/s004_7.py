"""S004, chapter 7."""

from __future__ import annotations

from derivations.ledger.row import Row

ROWS: tuple[Row, ...] = ()
