"""docker-compose.yml, the Dockerfile and what they name: well-formed, pinned, hardened, and of one mind."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load_config
from tests.conftest import ROOT
from tests.deploy.compose import DOCKERFILE, FILE, GPU_FILE, resolved, stages
from tests.prometheus_server import promtool

JOBS = ("topics", "cameras")
WORKERS = ("ingest-1", "ingest-2", "infer-1", "infer-2")
PASSERBY = (*JOBS, *WORKERS)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = resolved(FILE)["services"]
    return found


def test_hadolint_has_nothing_to_say() -> None:
    told = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", str(DOCKERFILE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_services_of_the_issue_are_there(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {"kafka", *PASSERBY, "camera", "prometheus", "grafana"}
    assert set(resolved(FILE)["volumes"]) == {"kafka", "spool-1", "spool-2", "prometheus", "grafana"}


def test_every_image_is_pinned_or_built_here(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), f"{name}: {service['image']}"
        else:
            assert service["build"]["target"] in stages(), name
    outside = {stage.base for stage in stages().values() if stage.parent is None}
    assert outside == {"python:3.11.14-slim-bookworm", "debian:bookworm-20251229-slim"}


def test_kafka_is_the_version_that_is_tested(services: dict[str, dict[str, Any]]) -> None:
    tested = re.search(r"<kafka.version>(.*)</kafka.version>", (ROOT / "deploy/kafka/pom.xml").read_text())
    assert tested is not None
    assert services["kafka"]["image"] == f"apache/kafka:{tested[1]}"


def test_images_run_as_somebody_without_rights() -> None:
    for name in ("passerby", "camera"):
        user = stages()[name].last("USER")
        assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user), f"{name}: {user or 'root'}"


def test_every_service_is_bounded_and_comes_back(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service.get("mem_limit"), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["restart"] == ("on-failure" if name in JOBS else "unless-stopped"), name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name != "kafka":  # Kafka's image writes its settings into itself
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


def test_every_service_that_goes_on_says_whether_it_is_well(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name in JOBS:
            assert service["healthcheck"]["test"] == ["NONE"], name
        elif "build" in service:
            assert stages()[service["build"]["target"]].health_check(), name
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_the_order_of_starting(services: dict[str, dict[str, Any]]) -> None:
    def after(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in services[name].get("depends_on", {}).items()}

    assert after("topics") == {"kafka": "service_healthy"}
    assert after("cameras") == {"topics": "service_completed_successfully"}
    for name in WORKERS:
        assert after(name) == {"cameras": "service_completed_successfully"}


def test_workers_have_names_and_spools_of_their_own(services: dict[str, dict[str, Any]]) -> None:
    for name in WORKERS:
        assert services[name]["hostname"] == services[name]["environment"]["PASSERBY_WORKER_ID"] == name
    spools = {name: [v for v in services[name]["volumes"] if v.startswith("spool")] for name in WORKERS[:2]}
    assert spools == {
        "ingest-1": ["spool-1:/var/lib/passerby/spool:rw"],
        "ingest-2": ["spool-2:/var/lib/passerby/spool:rw"],
    }


def test_what_is_mounted_exists(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source, target, mode = volume.split(":")
            if source.startswith("/"):
                assert Path(source).exists(), f"{name}: {volume}"
                assert mode == "ro", f"{name}: {volume}"
            else:
                assert target.startswith("/"), volume
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy/grafana" / Path(home).relative_to("/etc/grafana/provisioning")).is_file()
    provider = yaml.safe_load((ROOT / "deploy/grafana/dashboards/passerby.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == str(Path(home).parent)
    source = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_every_worker(services: dict[str, dict[str, Any]]) -> None:
    promtool("check", "config", ROOT / "deploy/prometheus/prometheus.yml")
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for static in job.get("static_configs", ()) for target in static["targets"]}
    for name in WORKERS:
        command = services[name]["command"]
        port = command[command.index("--metrics-port") + 1]
        assert services[name]["environment"]["PASSERBY_METRICS_PORT"] == port
        assert f"{name}:{port}" in targets
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]


def test_ports_are_open_on_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "kafka": ["127.0.0.1:9092:19092/tcp"],
        "prometheus": ["127.0.0.1:9090:9090/tcp"],
        "grafana": ["127.0.0.1:3000:3000/tcp"],
    }


def test_no_secret_is_written_down() -> None:
    words = re.compile(r"(?i)(pass(word|wd)|secret|token|api_?key)[\w.]*\s*[:=]\s*['\"]?([^\s'\"#]+)")
    files = [FILE, GPU_FILE, DOCKERFILE, ROOT / ".env.example", ROOT / "deploy/docker/passerby.yaml"]
    found = [(file.name, one[0]) for file in files for one in words.finditer(file.read_text())]
    assert [one for one in found if "${" not in one[1]] == []


def test_the_gpu_override_changes_inference_alone() -> None:
    plain, gpu = resolved(FILE)["services"], resolved(FILE, GPU_FILE)["services"]
    assert {name for name in plain if plain[name] != gpu[name]} == {"infer-1", "infer-2"}
    for name in ("infer-1", "infer-2"):
        service = gpu[name]
        assert service["image"] == "passerby:gpu"
        assert service["build"]["args"] == {"RUNTIME": "gpu"}
        assert service["build"]["target"] == "passerby"
        assert service["environment"] == {**plain[name]["environment"], "PASSERBY_PROVIDER": "cuda"}
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_what_is_in_env_example_can_be_set() -> None:
    named = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    offered = set(re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert offered == named
    told = resolved(FILE, PASSERBY_CONFIG="./mine.yaml", GRAFANA_PORT="3001", PUBLISH_ON="0.0.0.0", KAFKA_PORT="9999")
    assert f"{ROOT}/mine.yaml:/var/lib/passerby/passerby.yaml:ro" in told["services"]["infer-1"]["volumes"]
    assert told["services"]["grafana"]["ports"] == ["0.0.0.0:3001:3000/tcp"]
    assert "HOST://localhost:9999" in told["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_the_builder_gets_what_it_copies_and_nothing_big() -> None:
    """.dockerignore lets through what COPY names."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#*"]
    allowed = {rule.removeprefix("!") for rule in rules}
    copied = [
        word
        for stage in stages().values()
        for instruction, words in stage.instructions
        if instruction == "COPY" and "--from" not in words
        for word in words.split()[:-1]
    ]
    assert "pipeline" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(Path(path).match(rule) for rule in allowed), path


@pytest.mark.slow
def test_the_demo_watches_the_streets_that_the_demo_camera_shows(services: dict[str, dict[str, Any]]) -> None:
    written = subprocess.run(
        [sys.executable, str(ROOT / "deploy/demo-camera/film.py"), "--print-config"],
        capture_output=True, text=True, check=True, timeout=250,
    ).stdout  # fmt: skip
    assert (ROOT / "deploy/docker/passerby.yaml").read_text() == written
    shown = stages()["camera"].command("CMD")
    served = {word.partition("=")[0] for option, word in itertools.pairwise(shown) if option == "--loop"}
    surroundings = services["infer-1"]["environment"]
    config = load_config(ROOT / "deploy/docker/passerby.yaml", surroundings)
    assert set(config.cameras) == served
    assert config.kafka.bootstrap_servers == "kafka:9092"
    assert config.kafka.worker_id == "infer-1"
    for name, camera in config.cameras.items():
        assert camera.source.location.reveal() == f"rtsp://camera:8554/{name}"
