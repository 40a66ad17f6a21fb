"""From boxes to counts: tracker, lines, zones, count windows. Pure: no clock, no I/O."""
