"""``passerby check`` and ``passerby schema``: what is wrong with a configuration before it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.config import CameraConfig, Config, ConfigProblems, Problem, load_config, redact
from pipeline.config.loading import class_problems
from pipeline.config.problems import sorted_problems
from pipeline.config.reference import reference_markdown
from pipeline.config.schema import schema_text
from pipeline.errors import ConfigError, ModelError, SourceError
from pipeline.inference.detector import require_detection
from pipeline.inference.store import Model, load_model
from pipeline.services.inspection import look
from pipeline.services.label_planning import label_problems
from pipeline.services.planning import CameraPlan, Plan, SourceFacts, plan
from pipeline.services.scene_planning import scene_problems

_OPEN_AT_ONCE = 8


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check")(_check)
    app.command("schema")(_schema)


def _check(
    config_file: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = Path(
        "passerby.yaml"
    ),
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the sources.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the network on this machine instead of trusting the manifest.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long a source may take to open.")
    ] = 20.0,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Say everything that is wrong with a configuration, and what cannot work though it is well written.

    Reads the file, the models it names and, unless --no-open, the first second of every source. Then reasons: lines
    that no object can cross, areas under masks, people too small for the model, more load than this machine has cores.

    \b
    passerby check -c passerby.yaml
    passerby check -c passerby.yaml --no-open --json

    Exit code: 0 fine (warnings allowed; not with --strict), 2 errors.
    """
    configure(log_format)
    outcome: Plan | None = None
    try:
        config = load_config(config_file)
    except ConfigProblems as error:
        problems: Sequence[Problem] = error.problems
    except ConfigError as error:
        problems = [Problem(str(config_file), 0, 0, "", error.args[0], error.mend, "unreadable")]
    else:
        outcome = examine(config, open_sources=not no_open, measure=measure, timeout_s=timeout_s)
        problems = outcome.problems
    if as_json:
        typer.echo(json.dumps(_told(config_file, outcome, problems), ensure_ascii=False, indent=2))
    else:
        _show(config_file, outcome, problems)
    failed = any(problem.severity == "error" or strict for problem in problems)
    raise typer.Exit(2 if failed else 0)


def _schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference of all keys, as Markdown.")] = False,
) -> None:
    """Print the JSON Schema of passerby.yaml, for editors that complete and check.

    \b
    passerby schema > passerby.schema.json

    Then begin passerby.yaml with: # yaml-language-server: $schema=passerby.schema.json
    """
    typer.echo(reference_markdown() if markdown else schema_text(), nl=False)


def examine(config: Config, *, open_sources: bool = True, measure: bool = False, timeout_s: float = 20.0) -> Plan:
    """Load the models, open the sources, reason; all findings are in the plan, in the order of the file."""
    models, problems = _models(config)
    classes = {name: model.manifest.classes for name, model in models.items()}
    problems += class_problems(config, classes.get)
    facts, failures = _facts(config, timeout_s) if open_sources else ({}, _missing_files(config))
    problems += failures
    problems += scene_problems(config, facts)
    problems += label_problems(config)
    net_ms = _measured(config, models, facts) if measure else None
    manifests = {name: model.manifest for name, model in models.items()}
    outcome = plan(config, facts, manifests, cores=_cores(), net_ms=net_ms)
    return replace(outcome, problems=sorted_problems([*problems, *outcome.problems]))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _models(config: Config) -> tuple[dict[str, Model], list[Problem]]:
    models: dict[str, Model] = {}
    problems: list[Problem] = []
    for camera_id, camera in config.cameras.items():
        if camera.model in models:
            continue
        key = ("cameras", camera_id, "model")
        try:
            model = load_model(camera.model)
            require_detection(model)
            models[camera.model] = model
        except ModelError as error:
            found = config.problem(key, error.args[0], error.mend, code="model", severity="error")
            problems.append(found)
    return models, problems


def _facts(config: Config, timeout_s: float) -> tuple[dict[str, SourceFacts], list[Problem]]:
    """Open all sources, several at once."""

    def opened(camera: CameraConfig) -> SourceFacts | Problem:
        try:
            return look(camera, timeout_s=timeout_s)[0]
        except SourceError as error:
            key = ("cameras", camera.id, "source")
            # A camera that is away today is no fault of the file; a clip that is not there is.
            severity = "error" if camera.source.is_local_file else "warning"
            return config.problem(key, error.args[0], error.mend, code="source", severity=severity)  # type: ignore[arg-type]

    with ThreadPoolExecutor(_OPEN_AT_ONCE) as pool:
        found = dict(zip(config.cameras, pool.map(opened, config.cameras.values()), strict=True))
    facts = {camera_id: told for camera_id, told in found.items() if isinstance(told, SourceFacts)}
    return facts, [told for told in found.values() if isinstance(told, Problem)]


def _missing_files(config: Config) -> list[Problem]:
    return [
        config.problem(
            ("cameras", camera.id, "source"), f"there is no file or folder {camera.source.url}",
            "relative paths start at the folder of the configuration", code="source", severity="error",
        )
        for camera in config.cameras.values()
        if camera.source.is_local_file and not Path(camera.source.location.reveal()).exists()
    ]  # fmt: skip


def _measured(config: Config, models: Mapping[str, Model], facts: Mapping[str, SourceFacts]) -> dict[str, float]:
    """Milliseconds of one core for a picture, by camera, measured here and now."""
    from pipeline.services.measuring import network_ms

    return {
        camera_id: network_ms(models[camera.model], (known.width, known.height) if known else (1920, 1080))
        for camera_id, camera in config.cameras.items()
        if camera.model in models
        for known in (facts.get(camera_id),)
    }


def _told(config_file: Path, outcome: Plan | None, problems: Sequence[Problem]) -> dict[str, Any]:
    errors = [problem.as_json() for problem in problems if problem.severity == "error"]
    warnings = [problem.as_json() for problem in problems if problem.severity == "warning"]
    told: dict[str, Any] = {"file": str(config_file), "ok": not errors, "errors": errors, "warnings": warnings}
    if outcome is not None:
        told["cores"] = {"live": round(outcome.live_cores, 3), "available": outcome.available_cores}
        told["cameras"] = [
            {
                "camera_id": each.camera_id,
                "source": redact(each.source),
                "width": each.size[0] if each.size else None,
                "height": each.size[1] if each.size else None,
                "fps": each.fps,
                "codec": each.codec,
                "model_input": each.input,
                "smallest_person": each.smallest_person,
                "cores": round(each.cores, 3),
                "notes": each.notes,
            }
            for each in outcome.cameras
        ]
    return told


def _show(config_file: Path, outcome: Plan | None, problems: Sequence[Problem]) -> None:
    """Findings as ``file:line:column:`` on stderr, one line each, unwrapped; the cameras on stdout."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        errors.print(f"[{colour}]{problem.severity}[/] {escape(str(problem))}")
    out = Console(soft_wrap=True, highlight=False)
    if outcome is not None:
        for each in outcome.cameras:
            _show_camera(out.print, each, [p for p in problems if _is_of(p, each.camera_id)])
        out.print(f"live cameras need about {outcome.live_cores:.1f} of {outcome.available_cores} cores")
    count = {kind: sum(problem.severity == kind for problem in problems) for kind in ("error", "warning")}
    words = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in count.items() if n)
    out.print(f"{escape(str(config_file))}: {words or '[green]ok[/]'}")


def _is_of(problem: Problem, camera_id: str) -> bool:
    key = f"cameras.{camera_id}"
    return problem.key == key or problem.key.startswith(f"{key}.")


def _show_camera(say: Callable[[str], None], each: CameraPlan, problems: Sequence[Problem]) -> None:
    worst = "error" if any(p.severity == "error" for p in problems) else "warning" if problems else "ok"
    colour = {"error": "red", "warning": "yellow", "ok": "green"}[worst]
    facts = [f"{each.size[0]}x{each.size[1]}"] if each.size else ["not opened"]
    facts += [f"{each.fps:.3g} fps"] if each.fps else []
    facts += [each.codec] if each.codec else []
    if each.size and each.input and each.smallest_person:
        least = each.smallest_person
        facts.append(f"network {each.input[0]}x{each.input[1]}")
        facts.append(f"finds people from {least:.1%} of the picture's height ({least * each.size[1]:.0f} px)")
    facts.append(f"about {each.cores:.2f} cores")
    say(f"[{colour}]{worst:7}[/] [bold]{escape(each.camera_id)}[/]  {escape(', '.join(facts))}")
    for note in each.notes:
        say(f"        {escape(note)}")
