"""The hash that names a configuration in every event."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from pathlib import PurePath
from typing import Any

from pipeline.config.models import CameraConfig, Config
from pipeline.config.secrets import MASK

# How a stream is fetched says nothing about what is counted in it; credentials and *_file are secrets or their places.
_SOURCE_SETTINGS = {"mode", "max_staleness_s"}


def config_sha256(config: Config | CameraConfig) -> str:
    """64 hex digits over what can change results: a camera's whole resolved configuration, or all cameras'.

    Not in it: passwords and user names, folders of this machine (a file or a model's folder counts by its name), how
    a stream is fetched, and what belongs to the process (threads, provider, Kafka, output), so that the same rules over
    the same clip carry the same hash anywhere. Comments, the order of keys and whether a value came from the defaults
    or the camera make no difference.
    """
    told = _camera(config) if isinstance(config, CameraConfig) else {k: _camera(c) for k, c in config.cameras.items()}
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _camera(camera: CameraConfig) -> dict[str, Any]:
    told = camera.model_dump(mode="json", exclude={"source", "source_file", "start", "model"}, exclude_none=True)
    url = camera.source.url
    assert url is not None
    shown = PurePath(str(url)).name if camera.source.is_local_file else url.shown_without_user
    told["camera_id"] = camera.id
    told["model"] = PurePath(camera.model).name
    for name, section in (("scene", camera.scene), ("labels", camera.labels)):
        if section.model is not None and section.is_on:
            told[name]["model"] = PurePath(section.model).name
        else:
            del told[name]  # what is switched off changes nothing
    for place in (told, *told["zones"].values()):
        if not place["falls"]:
            del place["falls"]  # likewise
    told["source"] = camera.source.model_dump(mode="json", include=_SOURCE_SETTINGS) | {
        "url": MASK if str(url) == MASK else shown  # all of it is secret: not even what kind of source it is
    }
    if camera.start is not None:
        told["start"] = camera.start.astimezone(UTC).isoformat()
    return told
