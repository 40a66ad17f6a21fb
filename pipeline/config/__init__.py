"""The configuration: ``passerby.yaml`` in, checked and immutable values out.

    secrets     what must never be shown, and how texts are cleaned of it
    document    YAML with the position of every value; ${ENV}, *_file
    models      every key there is, with its type, default and meaning
    problems    what is wrong, where, and the mend
    loading     the way of a file through the above
    identity    the hash of a configuration
    schema      JSON Schema and the reference page, made from the models
"""

from pipeline.config.identity import config_sha256
from pipeline.config.loading import config_from_videos, load_config, read_config
from pipeline.config.models import (
    CameraConfig,
    Config,
    CountsConfig,
    InferenceConfig,
    KafkaConfig,
    LineConfig,
    OutputConfig,
    SourceConfig,
    ThresholdsConfig,
    TrackerConfig,
    WindowsConfig,
    ZoneConfig,
)
from pipeline.config.problems import ConfigProblems, Problem
from pipeline.config.secrets import SecretText, SecretUrl, redact

__all__ = [
    "CameraConfig",
    "Config",
    "ConfigProblems",
    "CountsConfig",
    "InferenceConfig",
    "KafkaConfig",
    "LineConfig",
    "OutputConfig",
    "Problem",
    "SecretText",
    "SecretUrl",
    "SourceConfig",
    "ThresholdsConfig",
    "TrackerConfig",
    "WindowsConfig",
    "ZoneConfig",
    "config_from_videos",
    "config_sha256",
    "load_config",
    "read_config",
    "redact",
]
