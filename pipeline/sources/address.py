"""Where a source is, and how it may be spoken of: kinds of addresses, and passwords taken out of them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

Kind = Literal["file", "folder", "rtsp", "hls", "http", "device", "network"]

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".dav", ".flv", ".h264", ".h265", ".264", ".265", ".hevc", ".m2ts", ".m4v", ".mjpeg"}
    | {".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
    | {".y4m"}
)
"""Names that end so are clips in a folder, and recordings (not cameras) over HTTP."""

_LIVE_OVER_HTTP = frozenset({".mjpg", ".mjpeg", ".ts"})  # cameras and relays serve endless streams by these names
_SECRET_KEY = re.compile(r"(?i)pass|pwd|token|secret|auth|key|sig|credential|session|jwt|user|login|account")
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Address:
    """A source as FFmpeg wants it (``target``) and as people may see it (``shown``, without secrets).

    recording: over HTTP, its name says that it is a file with an end. has_login: a user or password is in it.
    """

    kind: Kind
    target: str
    shown: str
    recording: bool = False
    has_login: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a file or a folder of this machine."""
        return self.kind in ("file", "folder")

    def clean(self, text: str) -> str:
        """``text`` without this address's secrets, wherever in it and however encoded they are, on one line."""
        text = " ".join(text.replace(self.target, self.shown).split())
        for secret in _secrets(self.target) if not self.is_local else ():
            text = text.replace(secret, _HIDDEN)
        return text


def locate(source: str) -> Address:
    """What ``source`` (URL, path, folder, /dev/videoN) is. Looks at the file system, opens nothing."""
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme in ("", "file"):
        return _locate_local(unquote(source[len("file://") :]) if scheme else source)
    shown = redacted(source)
    login = _login_end(source) > 0
    path = re.split(r"[?#]", source, maxsplit=1)[0].lower()
    if scheme in ("rtsp", "rtsps", "rtspt"):
        return Address("rtsp", source, shown, has_login=login)
    if scheme in ("http", "https"):
        if path.endswith((".m3u8", ".m3u")):
            return Address("hls", source, shown, has_login=login)
        recording = path.endswith(tuple(VIDEO_SUFFIXES - _LIVE_OVER_HTTP))
        return Address("http", source, shown, recording, login)
    return Address("network", source, shown, has_login=login)


def redacted(url: str) -> str:
    """``url`` fit for logs: without user, password and the values of query keys that sound like secrets."""
    scheme = url.partition("://")[0]
    end = _login_end(url)
    rest = f"{_HIDDEN}@{url[end:]}" if end else url[len(scheme) + 3 :]
    where, question, query = rest.partition("?")
    shown = "&".join(
        f"{key}={_HIDDEN}" if equals and _SECRET_KEY.search(key) else f"{key}{equals}{value}"
        for key, equals, value in (pair.partition("=") for pair in query.partition("#")[0].split("&"))
    )
    return f"{scheme}://{where}{question}{shown}"


def _login_end(url: str) -> int:
    """Where the host begins behind ``user:password@``; 0 without a login.

    A password may hold unescaped slashes, question marks and at-signs, and ``admin:1234/@host`` begins like a host
    and a port. Rather hide too much than show half of it.
    """
    start = url.find("://") + 3
    if start < 3:
        return 0
    plain = re.match(r"([\w.\-]*(?:\[[\w:.%]*\])?)(:\d*)?(?=[/?#]|$)", url[start:])
    if plain and not plain[2]:
        return 0
    # Behind a host and port only a login written wrongly has an @ in the path; a query may well have one.
    end = url.find("?") if plain and "?" in url else len(url)
    return url.rfind("@", start, end) + 1


def _locate_local(path: str) -> Address:
    if re.fullmatch(r"/dev/video\d+", path):
        return Address("device", path, path)
    if Path(path).is_dir():
        return Address("folder", path, path)
    # The prefix keeps FFmpeg from taking the part before a colon in the name for a protocol.
    return Address("file", f"file:{path}", path)


def _secrets(url: str) -> list[str]:
    """Every form in which a secret of ``url`` might turn up, longest first."""
    found: set[str] = set()
    end = _login_end(url)
    if end:
        login = url[url.index("://") + 3 : end - 1]
        user, _, password = login.partition(":")
        found |= {login, unquote(login), base64.b64encode(unquote(login).encode()).decode()}
        found |= {password, unquote(password)} if password else {user, unquote(user)}
    for pair in url.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if value and _SECRET_KEY.search(key):
            found |= {value, unquote(value)}
    return sorted((secret for secret in found if len(secret) >= 3), key=len, reverse=True)
