"""Kinds of sources, and passwords that must never show."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.address import locate, redacted


@pytest.mark.parametrize(
    ("source", "kind", "recording"),
    [
        ("rtsp://cam/stream", "rtsp", False),
        ("rtsps://cam/stream", "rtsp", False),
        ("http://cam/video.mjpg", "http", False),
        ("http://server/clip.MP4?x=1", "http", True),
        ("https://server/live/index.m3u8?token=abc", "hls", False),
        ("/dev/video0", "device", False),
        ("clip.mp4", "file", False),
        ("file:///tmp/a%20b.mp4", "file", False),
        ("udp://239.0.0.1:1234", "network", False),
        ("rtsp://[half", "rtsp", False),
    ],
)
def test_kinds(source: str, kind: str, recording: bool) -> None:
    address = locate(source)
    assert (address.kind, address.recording) == (kind, recording)


def test_a_folder_is_known_by_looking_and_a_colon_is_no_protocol(tmp_path: Path) -> None:
    assert locate(str(tmp_path)).kind == "folder"
    assert locate("cam:1.mp4").target == "file:cam:1.mp4"
    assert locate("file:///tmp/a%20b.mp4").shown == "/tmp/a b.mp4"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:secret@host:554/a?channel=1&subtype=0", "rtsp://***@host:554/a?channel=1&subtype=0"),
        ("rtsp://TOKEN123@host/a", "rtsp://***@host/a"),
        ("rtsp://u:p/a@ss@host/a", "rtsp://***@host/a"),
        ("rtsp://u:p#1@host/a", "rtsp://***@host/a"),
        ("http://h/x.m3u8?token=abc&user=me&pwd=1234#f", "http://h/x.m3u8?token=***&user=***&pwd=***"),
        ("rtsp://u:12/3@host/a", "rtsp://***@host/a"),
        ("rtsp://u:p?1@host/a", "rtsp://***@host/a"),
        ("http://host/@user/live.ts", "http://host/@user/live.ts"),
        ("http://host:80/live.ts?contact=a@b.c", "http://host:80/live.ts?contact=a@b.c"),
        ("rtsp://[::1]:8554/cam", "rtsp://[::1]:8554/cam"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


# A password that begins with digits and a question mark cannot be told from a port and a query: such URLs do not work.
passwords = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="?"), min_size=6
)


@given(passwords)
@settings(deadline=None)
def test_a_password_never_survives_cleaning(password: str) -> None:
    raw, quoted = f"rtsp://admin:{password}@cam.example/x", f"rtsp://admin:{quote(password, safe='')}@cam.example/x"
    basic = base64.b64encode(f"admin:{password}".encode()).decode()
    address = locate(quoted)
    said = f"Could not open {quoted}: sent Authorization: Basic {basic}, user admin, password {password}"
    for text in (address.clean(said), address.shown):
        # What is left once the marks are taken out must not hold it in any form.
        assert quote(password, safe="") not in text.replace("***", "")
        assert basic not in text
    assert password not in redacted(raw) or password in "rtsp://***@cam.example/x"
