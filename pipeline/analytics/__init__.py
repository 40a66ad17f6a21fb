"""Boxes to tracks to events: pure and deterministic, no clock and no I/O."""
