"""``passerby topics``: the topics of the log, as they are declared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.bus import declared as declared_file
from pipeline.bus.acls import ROLES, Acl, acls
from pipeline.bus.declared import TopicSpec, declared
from pipeline.bus.kafka import KafkaAdmin, KafkaBus, TopicDescription
from pipeline.cli.consuming import ConfigOption, kafka_config
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.config import KafkaConfig
from pipeline.errors import UsageError
from pipeline.services.topics import Change, apply, plan, refused, when_a_broker_answers

_COLOURS = {"ok": "green", "create": "cyan", "change": "yellow", "grow": "yellow", "refuse": "red"}
_DONE = {"ok": "as declared", "create": "created", "change": "changed", "grow": "grown", "refuse": "refused"}
_TODO = {"ok": "as declared", "create": "missing", "change": "differs", "grow": "differs", "refuse": "differs"}

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for a broker that does not answer.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(no_args_is_help=True, help="The topics of the log: make them, look at them, who may use them.")
    topics.command("apply")(_apply)
    topics.command("check")(_check)
    topics.command("list")(_list)
    topics.command("declared")(_declared)
    topics.command("acls")(_acls)
    app.add_typer(topics, name="topics")


def _apply(
    config_file: ConfigOption = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where anything differs.")] = False,
    wait_s: WaitOption = 30.0,
    as_json: JsonOption = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Create the topics that are missing and set what differs from what is declared; say what was done.

    What is declared ships with Passerby (`passerby topics declared` prints it); `kafka: {topics: FILE}` lays your own
    file over it. To apply twice changes nothing the second time. What Kafka or the cameras' state cannot bear is
    refused with the reason, and then nothing is changed at all.

    \b
    passerby topics apply -c passerby.yaml
    passerby topics apply -c passerby.yaml --check

    Exit code: 0 all is as declared (now), 1 something was refused or (--check) differs, 2 a wrong file.
    """
    configure(log_format)
    raise typer.Exit(_run(kafka_config(config_file), check=check, wait_s=wait_s, as_json=as_json))


def _check(
    config_file: ConfigOption = None,
    wait_s: WaitOption = 0.0,
    as_json: JsonOption = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Compare the topics with what is declared and change nothing; the same as apply --check.

    \b
    passerby topics check -c passerby.yaml

    Exit code: 0 all is as declared, 1 something differs, 2 a wrong file.
    """
    configure(log_format)
    raise typer.Exit(_run(kafka_config(config_file), check=True, wait_s=wait_s, as_json=as_json))


def _list(
    config_file: ConfigOption = None,
    wait_s: WaitOption = 0.0,
    as_json: JsonOption = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Show the topics as the broker has them.

    \b
    passerby topics list -c passerby.yaml
    """
    configure(log_format)
    settings = kafka_config(config_file)
    specs = declared(settings)
    with KafkaBus(settings, client_id="passerby-topics") as bus, bus.admin() as admin:
        when_a_broker_answers(admin.brokers, wait_s)
        there = admin.describe([spec.name for spec in specs])
    if as_json:
        told = [{"topic": topic.name, "partitions": topic.partitions, "replication": topic.replication,
                 "config": dict(topic.set_here)} for topic in there.values()]  # fmt: skip
        typer.echo(json.dumps(told, indent=2))
        return
    table = Table("topic", "partitions", "copies", "kept", "largest record")
    for spec in specs:
        table.add_row(spec.name, *(_shown(there[spec.name]) if spec.name in there else ("missing", "", "", "")))
    Console(soft_wrap=True).print(table)


def _declared() -> None:
    """Print the file that declares the topics, to copy and change.

    \b
    passerby topics declared > topics.yaml

    Then name it in passerby.yaml: kafka: {topics: topics.yaml}
    """
    typer.echo(declared_file.SHIPPED.read_text(encoding="utf-8"), nl=False)


def _acls(
    config_file: ConfigOption = None,
    users: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="ROLE=NAME", help="The broker's name of a role's user; may be repeated."),
    ] = None,
    commands: Annotated[bool, typer.Option("--commands", help="As arguments of Kafka's kafka-acls.sh.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the rights each kind of process needs on the broker, and no more: ingest, infer, consumer, operator, admin.

    \b
    passerby topics acls -c passerby.yaml
    passerby topics acls -c passerby.yaml --user ingest=cam-writer --commands |
      while read -r args; do kafka-acls.sh --bootstrap-server localhost:9092 $args; done
    """
    principals: dict[str, str] = {}
    for told in users or ():
        role, equals, name = told.partition("=")
        if role not in ROLES or not equals or not name:
            raise UsageError(f"--user {told}: cannot be read", mend=f"write ROLE=NAME; roles: {', '.join(ROLES)}")
        principals[role] = f"User:{name}"
    rights = acls(kafka_config(config_file), principals)
    if as_json:
        fields = Acl.__slots__
        typer.echo(json.dumps([{name: getattr(right, name) for name in fields} for right in rights], indent=2))
    elif commands:
        typer.echo("\n".join(right.command() for right in rights))
    else:
        Console(soft_wrap=True).print(_table_of(rights))


def _run(settings: KafkaConfig, *, check: bool, wait_s: float, as_json: bool) -> int:
    specs = declared(settings)
    with KafkaBus(settings, client_id="passerby-topics") as bus, bus.admin() as admin:
        brokers = when_a_broker_answers(admin.brokers, wait_s)
        changes = _planned(admin, specs, brokers)
        impossible = refused(changes)
        if not check and not impossible:
            apply(admin, changes)
            left = [change for change in _planned(admin, specs, brokers) if change.action != "ok"]
        else:
            left = [change for change in changes if change.action != "ok"]
    words = _TODO if check or impossible else _DONE
    if as_json:
        told = [{"topic": c.topic, "action": c.action, "what": c.what} for c in changes]
        typer.echo(json.dumps({"ok": not left, "applied": not check and not impossible, "topics": told}, indent=2))
    else:
        _show(changes, {**words, "refuse": "refused"}, changed=not check)
    return 1 if left else 0


def _planned(admin: KafkaAdmin, specs: Sequence[TopicSpec], brokers: int) -> list[Change]:
    return plan(specs, admin.describe([spec.name for spec in specs]), brokers)


def _show(changes: Sequence[Change], words: dict[str, str], *, changed: bool) -> None:
    table = Table("topic", "", "what")
    for change in changes:
        table.add_row(change.topic, f"[{_COLOURS[change.action]}]{words[change.action]}[/]", escape(change.what))
    Console(soft_wrap=True, highlight=False).print(table)
    if changed and refused(changes):
        errors = Console(stderr=True, soft_wrap=True, highlight=False)
        for change in refused(changes):
            errors.print(f"[red]refused[/] {escape(change.topic)}: {escape(change.what)}")
        errors.print("nothing was changed")


def _shown(topic: TopicDescription) -> tuple[str, str, str, str]:
    kept = "last of each key"
    if topic.config.get("cleanup.policy") != "compact":
        hours = int(topic.config.get("retention.ms", "-1")) / 3_600_000
        kept = "for ever" if hours < 0 else f"{hours:g} h" if hours < 48 else f"{hours / 24:g} d"
    largest = int(topic.config.get("max.message.bytes", "0")) / 2**20
    return str(topic.partitions), str(topic.replication), kept, f"{largest:g} MiB"


def _table_of(rights: Sequence[Acl]) -> Table:
    table = Table("role", "user", "resource", "name", "operations")
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for right in rights:
        name = right.name + ("*" if right.prefixed else "")
        rows.setdefault((right.role, right.principal, right.resource, name), []).append(right.operation)
    for row, operations in rows.items():
        table.add_row(*row, ", ".join(operations))
    return table
