"""Every error Passerby raises on purpose.

    PasserbyError                what the command line prints as one line
    ├── UsageError               a wrong call: bad option, missing file            exit 2
    ├── ConfigError              passerby.yaml is wrong (file, line, mend)         exit 2
    ├── ModelError               a model or its manifest cannot be used            exit 2
    ├── SourceError              a camera or file cannot be read                   exit 3
    │   ├── SourceUnavailable    refused, timed out, vanished; a retry may help    (retriable)
    │   ├── SourceDenied         password asked for or wrong                       (retriable, slowly)
    │   └── SourceUnreadable     no video in it, broken; a retry is useless
    ├── BusError                 the log between the stages failed
    │   ├── BusUnavailable       no broker answers, or it is busy; a retry may help        (retriable)
    │   ├── BusDenied            the broker refuses the user, the certificate or the right
    │   ├── BusMisconfigured     broker, topic and client do not fit: somebody has to change something
    │   │   └── TopicMissing     the topic is not there: `passerby topics apply`
    │   ├── OffsetGone           what was asked for is deleted, or not written yet
    │   ├── Fenced               another worker took over from us: drop everything, come back as a new member
    │   ├── TransactionAborted   nothing of the transaction counts: restore and go on      (retriable)
    │   ├── RecordTooLarge       a record over the topic's limit
    │   └── RecordMalformed      bytes that are not what the topic carries
    └── OutputError              results cannot be written                         exit 4

``retriable`` says whether trying the same thing again can help; ``exit_code`` is what the command line ends with.
"""

from __future__ import annotations


class PasserbyError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one line fit for a person.

    ``mend`` (may be empty) says what to do about it.
    """

    retriable: bool = False
    exit_code: int = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.mend})" if self.mend else text


class UsageError(PasserbyError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class ConfigError(PasserbyError):
    """The configuration is wrong; the message names file, line, key and the mend."""

    exit_code = 2


class ModelError(PasserbyError):
    """A model file or its manifest cannot be used."""

    exit_code = 2


class SourceError(PasserbyError):
    """A source of frames cannot be read."""

    exit_code = 3


class SourceUnavailable(SourceError):
    """Refused, timed out or vanished: a later attempt may succeed."""

    retriable = True


class SourceDenied(SourceError):
    """Asks for a password, or refuses the one given; retried slowly, since somebody may mend it."""

    retriable = True


class SourceUnreadable(SourceError):
    """There is no video to read in it: another attempt gives the same."""


class BusError(PasserbyError):
    """The log between the stages failed."""


class BusUnavailable(BusError):
    """No broker answers, or the one that does is busy or moving house: a later attempt may succeed."""

    retriable = True


class BusDenied(BusError):
    """The broker refuses the user, the password, the certificate, or the right to do this."""


class BusMisconfigured(BusError):
    """Broker, topic and client do not fit together; trying again gives the same."""


class TopicMissing(BusMisconfigured):
    """The topic is not there."""


class OffsetGone(BusError):
    """The offset asked for is deleted by retention, or beyond the end of the log."""


class Fenced(BusError):
    """Another worker took over from us (we were away too long): nothing of ours counts any more.

    The way on is to drop what is in flight, close consumer and transactions, and come back as a new member.
    """


class TransactionAborted(BusError):
    """Nothing of the transaction counts; what it held can be done again from the committed offsets."""

    retriable = True


class RecordTooLarge(BusError):
    """A record is larger than its topic takes. ``key``: of the record, where it is known."""

    def __init__(self, message: str, *, mend: str = "", key: str = "") -> None:
        super().__init__(message, mend=mend)
        self.key = key


class RecordMalformed(BusError):
    """The bytes of a record are not what its topic carries."""


class OutputError(PasserbyError):
    """Results cannot be written where they were asked for."""

    exit_code = 4
