"""S004: the main text, a module for each chapter."""

from __future__ import annotations

from derivations.ledger import s004_1, s004_2, s004_3, s004_4, s004_4b, s004_5, s004_6, s004_7, s004_8
from derivations.ledger.row import Row

CHAPTERS = (s004_1, s004_2, s004_3, s004_4, s004_4b, s004_5, s004_6, s004_7, s004_8)
ROWS: tuple[Row, ...] = tuple(row for chapter in CHAPTERS for row in chapter.ROWS)
