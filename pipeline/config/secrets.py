"""What must never be shown: passwords on their own and inside URLs.

Two nets. Types: ``SecretText`` and ``SecretUrl`` show themselves without their secret and give it only to
``reveal()``. Texts: ``redact`` cleans any line (FFmpeg's complaints quote the URL in their own words), by the shape of
a URL and by the secrets that were read in this process.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MASK: Final = "***"

# user:password@ of any URL. The password may itself hold '@' or '/', so everything up to the last '@' that a host
# can follow is taken.
_USERINFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s:@/?#'\"]*):(?P<password>[^\s'\"]*)@", re.IGNORECASE)
_SENSITIVE_NAME = r"(?:[\w-]*(?:password|passwd|pwd|pass|token|secret|api_?key|apikey|auth|signature|sig|credential)s?)"
_SENSITIVE_QUERY = re.compile(rf"(?P<name>[?&;]{_SENSITIVE_NAME}=)(?P<value>[^&\s'\"#]*)", re.IGNORECASE)
_SENSITIVE_ENV = re.compile(r"pass|pwd|token|secret|key|auth|cred|sig", re.IGNORECASE)
_MIN_REMEMBERED = 4  # a shorter secret would blank half of every text

_remembered: set[str] = set()
_lock = threading.Lock()


def remember_secret(value: str) -> None:
    """Let ``redact`` of this process know a secret by its value, as written and percent-encoded."""
    forms = {value, quote(value, safe=""), quote(value)}
    with _lock:
        _remembered.update(form for form in forms if len(form) >= _MIN_REMEMBERED)


def names_secret(env_name: str) -> bool:
    """Whether an environment variable's name says that it holds a secret."""
    return _SENSITIVE_ENV.search(env_name) is not None


def redact(text: str) -> str:
    """``text`` without passwords: those in URLs, in sensitive query values, and those read by this process."""
    with _lock:
        known = sorted(_remembered, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, MASK)
    text = _USERINFO.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    return _SENSITIVE_QUERY.sub(rf"\g<name>{MASK}", text)


class SecretText:
    """A secret; ``repr`` and ``str`` say ``***``, ``reveal()`` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember_secret(value)

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and other._value == self._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string"}

    @classmethod
    def _validate(cls, value: object) -> SecretText:
        if isinstance(value, SecretText):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("secret_type", "must be text: put it between quotes")
        if not value:
            raise PydanticCustomError("secret_empty", "must not be empty")
        return cls(value)


class SecretUrl(SecretText):
    """A URL, a file, a folder or a device; shown without the password and the tokens it may hold."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        self._value = value
        password = self.password
        if password:
            remember_secret(password)

    def __str__(self) -> str:
        return redact(self._value)

    @property
    def is_url(self) -> bool:
        """Whether it has a scheme (rtsp://, http://); else it names a file, folder or device."""
        return "://" in self._value

    @property
    def password(self) -> str | None:
        """The password inside, percent-encoded as in the URL, if there is one."""
        found = _USERINFO.match(self._value)
        return found["password"] if found else None

    def with_credentials(self, username: str, password: str | None) -> SecretUrl:
        """The same URL with user and password, percent-encoded, in place of those it has."""
        parts = urlsplit(self._value)
        host = parts.netloc.rpartition("@")[2]
        user = quote(username, safe="")
        if password is not None:
            user += ":" + quote(password, safe="")
        return SecretUrl(urlunsplit(parts._replace(netloc=f"{user}@{host}")))

    @classmethod
    def _validate(cls, value: object) -> SecretText:
        if isinstance(value, SecretUrl):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise PydanticCustomError("url_type", "must be text: a URL, a file, a folder or /dev/video0")
        if not value.strip():
            raise PydanticCustomError("url_empty", "must not be empty: give a URL, a file, a folder or /dev/video0")
        return cls(value)
