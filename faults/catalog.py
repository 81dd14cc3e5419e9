"""All rows of the fault suite, in the order of the table."""

from faults.row import Row
from faults.rows import clocks, corruptions, crashes, disks, events, floods, kills, origins, partitions, swarms

ROWS: dict[str, Row] = {
    row.name: row
    for module in (kills, crashes, origins, corruptions, swarms, partitions, events, clocks, disks, floods)
    for row in module.ROWS
}
