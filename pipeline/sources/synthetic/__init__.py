"""A scripted street with exact truth: people and vehicles in a drawn, perspective street.

A scene is a function of continuous time: it can be looked at (``Scene.render``), measured (``Scene.truth``) and
counted (``Scene.crossings``, ``Scene.dwells``) at any instant, so one scene serves every frame rate. It is made from
a seed by NumPy and Pillow alone; the same seed gives the same scene and the same pictures.

    street(seed) -> Scene -> render(t_s), truth(t_s), crossings(), dwells(), detections(scene, t_s)
                          -> synthetic_frames(scene, fps), write_video(scene, path, fps)
"""

from __future__ import annotations

from pipeline.sources.synthetic.crossing import Crossing, Dwell
from pipeline.sources.synthetic.scene import CLASSES, Actor, Scene, Truth, detections, detections_from
from pipeline.sources.synthetic.situations import SITUATIONS, street
from pipeline.sources.synthetic.stream import frame_times, parse_source, synthetic_frames, truth_of, write_video

__all__ = [
    "CLASSES",
    "SITUATIONS",
    "Actor",
    "Crossing",
    "Dwell",
    "Scene",
    "Truth",
    "detections",
    "detections_from",
    "frame_times",
    "parse_source",
    "street",
    "synthetic_frames",
    "truth_of",
    "write_video",
]
