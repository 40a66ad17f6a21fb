"""Frames come in here: decode, sample, mask, scale. One door to PyAV (video)."""
