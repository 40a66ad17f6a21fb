"""What must never be shown: passwords on their own and inside URLs.

Two nets. Types: ``SecretText`` and ``SecretUrl`` show themselves without their secret and give it only to
``reveal()``. Texts: ``redact`` cleans any line (FFmpeg's complaints quote the URL in their own words), by the shape of
a URL and by the secrets that were read in this process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MASK: Final = "***"

# A password that was not percent-encoded may itself hold '@', '/' or '#': everything up to the last '@' is taken.
# That hides too much of a URL whose path has an '@' behind a port; too little would be worse.
_USERINFO = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s:@/?#'\"]*):(?P<password>[^\s'\"]*)@", re.IGNORECASE
)
_SENSITIVE = r"(?:[\w-]*?(?:password|passwd|passphrase|pass|pwd|psw|token|secret|api_?key|auth|signature|credentials?))"
_SENSITIVE_VALUE = re.compile(rf"(?P<name>(?:^|[?&;/_,\s]){_SENSITIVE}=)(?P<value>[^&;\s'\"#]*)", re.IGNORECASE)
_SENSITIVE_NAME = re.compile(
    r"pass(word|wd|phrase)?($|_)|pwd|psw|token|secret|credential|(^|_)(api)?key($|_)|(^|_)auth($|_)", re.IGNORECASE
)
_MIN_REMEMBERED = 4  # a shorter secret would blank half of every text

_remembered: set[str] = set()
_lock = threading.Lock()


def remember_secret(value: str) -> None:
    """Let ``redact`` of this process know a secret by its value, as written and percent-encoded."""
    forms = {value, quote(value, safe=""), quote(value)}
    with _lock:
        _remembered.update(form for form in forms if len(form) >= _MIN_REMEMBERED)


def names_secret(name: str) -> bool:
    """Whether the name of an environment variable or a key says that it holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None


def redact_shape(text: str) -> str:
    """``text`` without what looks like a password: in URLs and in ``password=`` and the like."""
    text = _USERINFO.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    return _SENSITIVE_VALUE.sub(rf"\g<name>{MASK}", text)


def redact(text: str) -> str:
    """``redact_shape``, and also without the secrets that were read by this process, wherever they stand."""
    with _lock:
        known = sorted(_remembered, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, MASK)
    return redact_shape(text)


def secrets_in(text: str) -> list[str]:
    """The passwords and tokens that the shape of a URL tells."""
    found = [match["password"] for match in _USERINFO.finditer(text)]
    return [secret for secret in found + [match["value"] for match in _SENSITIVE_VALUE.finditer(text)] if secret]


def replace_secrets(text: str, replacement: Callable[[str], str]) -> str:
    """``text`` with each secret that ``secrets_in`` finds replaced by what ``replacement`` makes of it."""
    text = _USERINFO.sub(lambda m: f"{m['scheme']}{m['user']}:{m['password'] and replacement(m['password'])}@", text)
    return _SENSITIVE_VALUE.sub(lambda m: m["name"] + (m["value"] and replacement(m["value"])), text)


class SecretText:
    """A secret; ``repr`` and ``str`` say ``***``, ``reveal()`` gives it. It cannot be pickled or turned into JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember_secret(value)

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, SecretText) and other._value == self._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled: a pickle shows it")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string"}

    @classmethod
    def _validate(cls, value: object) -> SecretText:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("not-text", "must be text", {"mend": "put it between quotes"})
        if not value:
            raise PydanticCustomError("empty", "must not be empty")
        return cls(value)


class SecretUrl(SecretText):
    """A URL, a file, a folder or a device; shown without the password and the tokens it may hold.

    shown: how to show it, where the caller knows better than the shape of the text tells.
    """

    __slots__ = ("_shown",)

    def __init__(self, value: str, shown: str | None = None) -> None:
        self._value = value
        self._shown = redact_shape(value if shown is None else shown)
        for secret in secrets_in(value):
            remember_secret(secret)

    def __str__(self) -> str:
        return self._shown

    @property
    def is_url(self) -> bool:
        """Whether it has a scheme (rtsp://, http://); else it names a file, folder or device."""
        return "://" in self._value

    @property
    def shown_without_user(self) -> str:
        """What is shown, without user and password: the same for everybody who may look at the camera."""
        if not self.is_url:
            return self._shown
        scheme, _, rest = self._shown.partition("://")
        authority, slash, path = rest.partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"

    def with_credentials(self, username: str, password: str | None) -> SecretUrl:
        """The same URL with user and password, percent-encoded, in place of those it has."""
        user = quote(username, safe="") + ("" if password is None else ":" + quote(password, safe=""))
        return SecretUrl(_with_user(self._value, user), _with_user(self._shown, quote(username, safe="") + f":{MASK}"))

    @classmethod
    def _validate(cls, value: object) -> SecretText:
        if isinstance(value, cls):
            return value
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise PydanticCustomError("not-text", "must be text: a URL, a file, a folder or /dev/video0")
        if not str(value).strip():
            raise PydanticCustomError("empty", "must not be empty: give a URL, a file, a folder or /dev/video0")
        return cls(str(value))


def _with_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))
