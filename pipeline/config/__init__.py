"""The configuration: ``passerby.yaml`` in, checked and immutable values out.

secrets     what must never be shown, and how texts are cleaned of it
problems    what is wrong, where, and the mend
document    YAML with the place of every value
environment ${ENV} and *_file
shapes      points, lines, polygons
models      every key there is, with its type, default and meaning
checking    from pydantic's complaints to findings
loading     the way of a file through all of these
camera_document  a camera on its own, for the log and out of it
videos      a configuration made of a command line
identity    the hash of a configuration
schema      JSON Schema and the reference page, made from the models
"""

from pipeline.config.camera_document import camera_document, camera_environment, camera_from_document
from pipeline.config.identity import config_sha256
from pipeline.config.kafka import KafkaConfig, SpoolConfig
from pipeline.config.loading import ClassesOf, load_config, read_config
from pipeline.config.models import CameraConfig, Config
from pipeline.config.problems import ConfigProblems, Problem
from pipeline.config.secrets import SecretText, SecretUrl, redact
from pipeline.config.sections import (
    ConditionConfig,
    CountsConfig,
    InferenceConfig,
    LineConfig,
    OutputConfig,
    SceneConfig,
    SourceConfig,
    ThresholdsConfig,
    TrackerConfig,
    WindowsConfig,
    ZoneConfig,
)
from pipeline.config.videos import config_from_videos

__all__ = [
    "CameraConfig",
    "ClassesOf",
    "ConditionConfig",
    "Config",
    "ConfigProblems",
    "CountsConfig",
    "InferenceConfig",
    "KafkaConfig",
    "LineConfig",
    "OutputConfig",
    "Problem",
    "SceneConfig",
    "SecretText",
    "SecretUrl",
    "SourceConfig",
    "SpoolConfig",
    "ThresholdsConfig",
    "TrackerConfig",
    "WindowsConfig",
    "ZoneConfig",
    "camera_document",
    "camera_environment",
    "camera_from_document",
    "config_from_videos",
    "config_sha256",
    "load_config",
    "read_config",
    "redact",
]
