"""Passerby: streaming video analytics. Cameras in, people and vehicle counts and scene events out."""

__version__ = "0.1.0"
