"""The one door from FFmpeg's errors to ours: what went wrong, in words, without secrets.

401, 403                                     SourceDenied
404, refused, reset, timed out, no host ...  SourceUnavailable   (a file over HTTP that is not there: unreadable)
no such file, not a video, no decoder ...    SourceUnreadable
"""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import av
import av.error

from pipeline.errors import SourceDenied, SourceError, SourceUnavailable, SourceUnreadable
from pipeline.sources.address import Address

_NETWORK_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.ConnectionRefusedError, "connection refused"),
    (av.error.ConnectionResetError, "the connection was cut"),
    (av.error.ConnectionAbortedError, "the connection was cut"),
    (av.error.BrokenPipeError, "the connection was cut"),
    (av.error.TimeoutError, "no answer in time"),
    (av.error.ExitError, "no answer in time"),
    (av.error.HTTPNotFoundError, "no such stream (404 not found)"),
    (av.error.HTTPTooManyRequestsError, "too many requests (429)"),
    (av.error.HTTPServerError, "the server failed (5xx)"),
    (av.error.HTTPError, "the server refused the request (4xx)"),
    (av.error.ProtocolNotFoundError, "this kind of URL is not supported"),
)
_LOCAL_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.FileNotFoundError, "no such file"),
    (av.error.IsADirectoryError, "is a directory"),
    (av.error.PermissionError, "may not be read (permission denied)"),
)
_UNREADABLE = (
    av.error.InvalidDataError,
    av.error.EOFError,
    av.error.LookupError,
    av.error.PatchWelcomeError,
    av.error.NotImplementedError,
)

_MAGIC = (
    (b"\x89PNG", "is a picture (PNG), not a video"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not a video"),
    (b"GIF8", "is a picture (GIF), not a video"),
    (b"BM", "is a picture (BMP), not a video"),
    (b"PK\x03\x04", "is a ZIP archive, not a video"),
    (b"%PDF", "is a PDF, not a video"),
)


def translate(error: BaseException, address: Address) -> SourceError:
    """``error``, raised while opening or reading ``address``, as one of ours; its text is safe to show."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return _denied(error, address)
    if address.is_local:
        path = Path(address.shown)
        local = _look_up(error, _LOCAL_WORDS) or describe_content(path) or _plain(error, address)
        return SourceUnreadable(f"{path}: {local}")
    if address.kind == "device":
        return _device(error, address)
    if isinstance(error, av.error.HTTPNotFoundError) and address.kind == "http":
        return SourceUnreadable(f"{address.shown}: not found (404)")
    words = _look_up(error, _NETWORK_WORDS)
    if isinstance(error, av.error.ProtocolNotFoundError):
        return SourceUnreadable(f"{address.shown}: {words}")
    if words is not None:
        return SourceUnavailable(f"{address.shown}: {words}")
    if isinstance(error, _UNREADABLE):
        return SourceUnreadable(f"{address.shown}: what it sends is no video ({_plain(error, address)})")
    return SourceUnavailable(f"{address.shown}: {_name_problem(address) or _plain(error, address)}")


def check_file(address: Address) -> None:
    """Refuse, before FFmpeg sees it, what cannot be a video. Raises SourceUnreadable."""
    path = Path(address.shown)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise SourceUnreadable(f"{path}: no such file") from None
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror or type(error).__name__}") from None
    if path.is_file() and size == 0:
        raise SourceUnreadable(f"{path}: is empty (0 bytes)")
    words = _describe(head)
    if words and not head.startswith(b"GIF8"):  # an animated GIF has frames
        raise SourceUnreadable(f"{path}: {words}")


def describe_content(path: Path) -> str:
    """What a file that is no video seems to be; empty if that cannot be said."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return ""
    return _describe(head) or "is not a video, or is damaged from its beginning"


def _describe(head: bytes) -> str:
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "is a picture (WebP), not a video"
    # Playlists are text that FFmpeg reads.
    if head and not head.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"YUV4MPEG2")) and _is_text(head):
        return "is a text file, not a video"
    return ""


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        # The cut may run through a character.
        text = head.decode("utf-8", errors="strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c in "\r\n\t\f" for c in text)


def _denied(error: BaseException, address: Address) -> SourceDenied:
    if isinstance(error, av.error.HTTPForbiddenError):
        return SourceDenied(f"{address.shown}: access forbidden (403)")
    if address.has_login:
        return SourceDenied(f"{address.shown}: wrong user or password (401)")
    return SourceDenied(f"{address.shown}: asks for a user and password (401)")


def _device(error: BaseException, address: Address) -> SourceError:
    if isinstance(error, av.error.PermissionError):
        return SourceUnavailable(f"{address.shown}: permission denied (is the user in the group video?)")
    if not Path(address.target).exists():
        return SourceUnavailable(f"{address.shown}: no such camera (not plugged in?)")
    return SourceUnavailable(f"{address.shown}: the camera gives no video ({_plain(error, address)})")


def _look_up(error: BaseException, table: tuple[tuple[type[Exception], str], ...]) -> str | None:
    return next((words for kind, words in table if isinstance(error, kind)), None)


def _name_problem(address: Address) -> str:
    """FFmpeg says no more than "Input/output error" for a host that does not exist."""
    try:
        host = urlsplit(address.target).hostname
        if host:
            socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return "no such host"
    except ValueError:
        return "is not a URL that makes sense"
    return ""


def _plain(error: BaseException, address: Address) -> str:
    """FFmpeg's own word for it."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return address.clean(str(words))
