"""Which tables there are: declared by theme, asked for by name in the pages."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.results.catalogue import against_ppo, mechanisms, other, second_look
from scripts.results.tables import Copied, Table

TABLES: Mapping[str, Table | Copied] = {
    table.name: table
    for theme in (against_ppo, mechanisms, second_look, other)
    for table in theme.TABLES
}
