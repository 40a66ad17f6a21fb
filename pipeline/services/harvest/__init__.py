"""``passerby harvest``: frames worth learning from, out of the log or out of recordings, as a set of labelled pictures.

looking      windows -> what detector and tracker saw in each frame (the model whose doubts count)
choosing     which of these frames: uncertain, flickering; spread in time, no near-duplicates
corrections  what an operator said of events and moments: false, missed, class
labels       boxes for a frame (by the model or a teacher), and about which classes they are complete
harvesting   the whole of it
"""

from pipeline.services.harvest.corrections import Correction, read_corrections, read_events
from pipeline.services.harvest.harvesting import Harvest, Harvested, Rules
from pipeline.services.harvest.looking import looks_at_log, looks_at_recordings

__all__ = [
    "Correction",
    "Harvest",
    "Harvested",
    "Rules",
    "looks_at_log",
    "looks_at_recordings",
    "read_corrections",
    "read_events",
]
