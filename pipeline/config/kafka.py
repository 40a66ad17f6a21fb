"""The section ``kafka`` of ``passerby.yaml``: where the log is, who we are to it, and how workers use it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.problems import fault
from pipeline.config.secrets import SecretText
from pipeline.config.sections import Number, Section, Whole

_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?):(?P<port>[0-9]{1,5})")
_GroupName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]


class SpoolConfig(Section):
    """Where an ingest worker keeps windows on its own disk while no broker answers."""

    dir: str = Field(
        "spool",
        min_length=1,
        description="Its folder. Each worker makes one of its own in it, by its `worker_id`.",
        examples=["/var/lib/passerby/spool"],
    )
    max_bytes: Annotated[Whole, Field(ge=2**20)] = Field(
        2 * 2**30,
        description="How large it may become. A camera that is full drops its oldest windows and counts them; a file "
        "waits.",
    )
    min_free_bytes: Annotated[Whole, Field(ge=0)] = Field(
        2**28, description="What it leaves free on the disk, whatever `max_bytes` says."
    )
    sync_s: Annotated[Number, Field(ge=0, le=60)] = Field(
        1.0,
        description="What a power cut may cost, in seconds; 0: nothing (each window waits for the disk). A crash of "
        "the process costs nothing.",
    )


class KafkaConfig(Section):
    """The log between the workers (`ingest`, `infer`); `run` needs none."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="host:port, comma-separated.")
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = Field(
        "passerby", description="First part of every topic's name."
    )
    topics: str | None = Field(
        None,
        description="A file that says otherwise than the one that ships (`passerby topics declared` prints it) how "
        "many partitions and copies topics have and how long they are kept; only what differs need stand in it.",
        examples=["topics.yaml"],
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As in Kafka's clients."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="As in Kafka's clients."
    )
    username: str | None = Field(None, min_length=1, description="SASL user.")
    username_file: str | None = Field(None, description="A file that holds the SASL user.")
    password: SecretText | None = Field(
        None, description="SASL password; write `${KAFKA_PASSWORD}`.", examples=["${KAFKA_PASSWORD}"]
    )
    password_file: str | None = Field(None, description="A file that holds the SASL password.")
    ca_file: str | None = Field(
        None,
        description="Certificate authority that signed the brokers' certificates (PEM). Default: the machine's own.",
    )
    cert_file: str | None = Field(None, description="Our own certificate (PEM), where brokers ask for one (mTLS).")
    key_file: str | None = Field(None, description="Its private key (PEM).")
    key_password: SecretText | None = Field(
        None, description="Password of the private key.", examples=["${KAFKA_KEY_PASSWORD}"]
    )
    key_password_file: str | None = Field(None, description="A file that holds the password of the private key.")
    worker_id: _GroupName | None = Field(
        None,
        description="Name of this worker, its own in the whole cluster; an inference worker that comes back under "
        "it within `session_timeout_s` keeps its cameras, an ingest worker finds its spool. "
        "Default: the host's name (one worker of a kind on a host).",
    )
    ingest_group: _GroupName | None = Field(
        None, description="Consumer group of the ingest workers. Default: `PREFIX.ingest`."
    )
    infer_group: _GroupName | None = Field(
        None, description="Consumer group of the inference workers. Default: `PREFIX.infer`."
    )
    commit_interval_s: Annotated[Number, Field(ge=0.2, le=1)] = Field(
        0.5, description="How often an inference worker commits: results become readable this much later at most."
    )
    session_timeout_s: Annotated[Number, Field(ge=6, le=300)] = Field(
        10.0, description="A worker that is silent for this long is taken for dead, and others take its cameras over."
    )
    transaction_timeout_s: Annotated[Number, Field(ge=2, le=900)] = Field(
        15.0, description="A transaction that is open for longer is aborted by the broker."
    )
    spool: SpoolConfig = SpoolConfig()

    @field_validator("bootstrap_servers", mode="after")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in value.split(","):
            found = _SERVER.fullmatch(server.strip())
            if found is None or not 0 < int(found["port"]) < 65_536:
                message = f"{server.strip()!r} is not host:port" if "@" not in server else "an entry is not host:port"
                raise fault("bad-server", message, "write host:9092, more of them with commas between")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> KafkaConfig:
        protocol = self.security_protocol
        if protocol.startswith("SASL") and None in (self.sasl_mechanism, self.username, self.password):
            raise fault("sasl-incomplete", f"{protocol} needs sasl_mechanism, username and password")
        tls = protocol.endswith("SSL")
        if not protocol.startswith("SASL") and (self.username or self.password or self.sasl_mechanism):
            wanted = "SASL_SSL" if tls else "SASL_SSL (or SASL_PLAINTEXT, where nobody can listen)"
            mend = f"write security_protocol: {wanted}"
            raise fault("sasl-unused", f"user and password are not used with {protocol}", mend)
        if not tls and (self.ca_file or self.cert_file or self.key_file):
            mend = f"write security_protocol: {'SASL_SSL' if protocol.startswith('SASL') else 'SSL'}"
            raise fault("tls-unused", f"certificates are not used with {protocol}", mend)
        if (self.cert_file is None) != (self.key_file is None):
            raise fault("tls-incomplete", "cert_file and key_file belong together", "give both or none")
        return self

    @property
    def ingest_group_name(self) -> str:
        """Consumer group of the ingest workers."""
        return self.ingest_group or f"{self.prefix}.ingest"

    @property
    def infer_group_name(self) -> str:
        """Consumer group of the inference workers."""
        return self.infer_group or f"{self.prefix}.infer"
