"""kafka-python's errors in our words: the one place where they are told apart. None of them leaves this folder.

    kafka.errors.KafkaError
    ├── what a later attempt may mend: timeouts, leaders and coordinators on the move   BusUnavailable      retriable
    ├── who we are, and what we may                                                     BusDenied
    ├── broker, topic and client that do not fit                                        BusMisconfigured
    │   └── a topic that is not there                                                   TopicMissing
    ├── an offset that is not there                                                     OffsetGone
    ├── somebody else is us now (producer epochs, instance ids, unknown members)        Fenced
    ├── a transaction that came to nothing                                              TransactionAborted  retriable
    ├── a record or batch over the limit                                                RecordTooLarge
    └── what only a bug or a broken disk explains                                       BusError

``retriable`` is on our classes (pipeline.errors). Every class of ``kafka.errors`` stands in the table below by its own
name; a test walks them all and fails on one that is missing, so that an upgrade cannot bring one in unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from pipeline.errors import (
    BusDenied,
    BusError,
    BusMisconfigured,
    BusUnavailable,
    Fenced,
    OffsetGone,
    PasserbyError,
    RecordTooLarge,
    TopicMissing,
    TransactionAborted,
)

_NAMES: dict[type[BusError], str] = {
    BusUnavailable: """
        RetriableError InvalidMetadataError Cancelled KafkaConnectionError CorrelationIdError KafkaTimeoutError
        MetadataEmptyBrokerList NodeNotReadyError UnknownBrokerIdError QuotaViolationError StaleMetadata
        TooManyInFlightRequests LeaderNotAvailableError NotLeaderForPartitionError RequestTimedOutError
        BrokerNotAvailableError ReplicaNotAvailableError StaleControllerEpochError NetworkExceptionError
        CoordinatorLoadInProgressError CoordinatorNotAvailableError NotCoordinatorError NotEnoughReplicasError
        NotEnoughReplicasAfterAppendError RebalanceInProgressError NotControllerError ConcurrentTransactionsError
        OperationNotAttemptedError KafkaStorageError LogDirNotFoundError ReassignmentInProgressError
        FetchSessionIdNotFoundError InvalidFetchSessionEpochError ListenerNotFoundError FencedLeaderEpochError
        UnknownLeaderEpochError StaleBrokerEpochError OffsetNotAvailableError MemberIdRequiredError
        PreferredLeaderNotAvailableError EligibleLeadersNotAvailableError ElectionNotNeededError
        NoReassignmentInProgressError UnstableOffsetCommitError ThrottlingQuotaExceededError
        SnapshotNotFoundError PositionOutOfRangeError UnknownTopicIdError BrokerIdNotRegisteredError
        InconsistentTopicIdError FetchSessionTopicIdError IneligibleReplicaError NewLeaderElectedError
        UnknownControllerIdError ShareSessionNotFoundError InvalidShareSessionEpochError
        OffsetMovedToTieredStorageError
        """,
    BusDenied: """
        AuthorizationError TopicAuthorizationFailedError GroupAuthorizationFailedError
        ClusterAuthorizationFailedError TransactionalIdAuthorizationFailedError SaslAuthenticationFailedError
        DelegationTokenAuthDisabledError DelegationTokenNotFoundError DelegationTokenOwnerMismatchError
        DelegationTokenRequestNotAllowedError DelegationTokenAuthorizationFailedError DelegationTokenExpiredError
        InvalidPrincipalTypeError PrincipalDeserializationFailureError UnacceptableCredentialError
        """,
    BusMisconfigured: """
        IllegalArgumentError KafkaConfigurationError UnrecognizedBrokerVersion UnsupportedCodecError InvalidTopicError
        InvalidRequiredAcksError InconsistentGroupProtocolError InvalidGroupIdError InvalidSessionTimeoutError
        UnsupportedSaslMechanismError IllegalSaslStateError UnsupportedVersionError IncompatibleBrokerVersion
        TopicAlreadyExistsError InvalidPartitionsError InvalidReplicationFactorError
        InvalidReplicationAssignmentError InvalidConfigurationError UnsupportedForMessageFormatError
        PolicyViolationError InvalidTransactionTimeoutError SecurityDisabledError NonEmptyGroupError
        GroupIdNotFoundError TopicDeletionDisabledError UnsupportedCompressionTypeError GroupMaxSizeReachedError
        GroupSubscribedToTopicError ResourceNotFoundError DuplicateResourceError InconsistentVoterSetError
        InvalidUpdateVersionError FeatureUpdateFailedError DuplicateBrokerRegistrationError
        InconsistentClusterIdError TransactionalIdNotFoundError UnreleasedInstanceIdError UnsupportedAssignorError
        MismatchedEndpointTypeError UnsupportedEndpointTypeError UnknownSubscriptionIdError TelemetryTooLargeError
        InvalidRegistrationError InvalidVoterKeyError DuplicateVoterError VoterNotFoundError
        OffsetMetadataTooLargeError InvalidTimestampError
        """,
    TopicMissing: "UnknownTopicOrPartitionError",
    OffsetGone: "OffsetOutOfRangeError NoOffsetForPartitionError LogTruncationError",
    Fenced: """
        ProducerFencedError InvalidProducerEpochError TransactionCoordinatorFencedError FencedInstanceIdError
        UnknownMemberIdError FencedMemberEpochError StaleMemberEpochError FencedStateEpochError CommitFailedError
        IllegalGenerationError
        """,
    TransactionAborted: """
        TransactionAbortedError TransactionAbortableError InvalidTxnStateError OutOfOrderSequenceNumberError
        UnknownProducerIdError InvalidProducerIdMappingError
        """,
    RecordTooLarge: "MessageSizeTooLargeError RecordListTooLargeError InvalidCommitOffsetSizeError",
    BusError: """
        KafkaError BrokerResponseError NoError UnknownError CorruptRecordError InvalidFetchRequestError
        IllegalStateError KafkaProtocolError InvalidReceiveError InvalidRequestError DuplicateSequenceNumberError
        InvalidRecordError InvalidRecordStateError
        """,
}

MEANING: dict[type[BaseException], type[BusError]] = {
    getattr(kafka_errors, name): ours for ours, names in _NAMES.items() for name in names.split()
}
"""Each class of kafka.errors and what it becomes."""

_MENDS = {
    BusDenied: "check kafka.username, kafka.password, the certificates and the broker's access rules: docs/security.md",
    TopicMissing: "make the topics: passerby topics apply",
    OffsetGone: "the retention of the topic has deleted it; see `passerby topics`",
}


def translate(error: BaseException, doing: str) -> BusError:
    """``error`` in our words; ``doing`` says what was tried: "read passerby.windows". Ours pass unchanged."""
    if isinstance(error, BusError):
        return error
    if isinstance(error, PasserbyError):
        return BusError(f"cannot {doing}: {error}")
    meant = MEANING.get(type(error))
    if meant is None:  # a subclass that kafka-python makes elsewhere, or not one of its errors at all
        meant = next((MEANING[kind] for kind in type(error).__mro__ if kind in MEANING), None)
    if meant is None:
        meant = BusUnavailable if isinstance(error, OSError) else BusError
    if meant is BusError and "AuthorizationFailedError" in str(error):
        meant = BusDenied  # the refusal of a producer id comes wrapped, by its name alone
    return meant(f"cannot {doing}: {_words(error)}", mend=_MENDS.get(meant, ""))


def _words(error: BaseException) -> str:
    """One line: the class without "Error", and what it says, shortened."""
    said = " ".join(str(argument) for argument in error.args if argument not in (None, "")).split()
    text = " ".join(said)[:300]
    name = type(error).__name__.removesuffix("Error")
    return f"{name}: {text}" if text else name


@contextmanager
def ours(doing: str) -> Iterator[None]:
    """What goes wrong inside comes out in our words."""
    try:
        yield
    except PasserbyError:
        raise
    except (kafka_errors.KafkaError, OSError, RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise translate(error, doing) from error
