"""All rows of the fault suite, in the order of the table."""

from __future__ import annotations

from faults.row import Row
from faults.rows import corruptions, crashes, kills, origins, swarms

ROWS: dict[str, Row] = {
    row.name: row for row in (*kills.ROWS, *crashes.ROWS, *origins.ROWS, *corruptions.ROWS, *swarms.ROWS)
}
