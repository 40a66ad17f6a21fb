"""The hash that names a configuration in every event."""

from __future__ import annotations

from pipeline.config.models import CameraConfig, Config


def config_sha256(config: Config | CameraConfig) -> str:
    """64 hex digits over what can change results: a camera's whole resolved configuration, or all cameras'.

    Not in it: passwords and user names, folders of this machine (a file counts by its name), and what belongs to the
    process (threads, provider, Kafka, output), so that the same rules over the same clip carry the same hash anywhere.
    """
    raise NotImplementedError
