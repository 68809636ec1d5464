"""deploy/ fits together and fits the product, as far as that shows without an image registry."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from stream_detector.adapters.prometheus import PrometheusTelemetry
from stream_detector.commands.simulate import simulate
from stream_detector.config import DetectorConfig, load_yaml
from stream_detector.restore import DEGRADED
from tests.ops.dashboards import DASHBOARDS, DEPLOY, load
from tests.ops.prometheus_server import binary
from trainer.config import TrainerConfig

ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")


def detector_config() -> DetectorConfig:
    environment = SERVICES["detector"]["environment"]
    return load_yaml(DEPLOY / "detector.yaml", DetectorConfig, environment)


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """source, target, mode of each volume."""
    split = [(*volume.split(":"), "rw")[:3] for volume in service.get("volumes", ())]
    return [(source, target, mode) for source, target, mode in split]


def stages() -> dict[str, list[str]]:
    """Stage of the Dockerfile -> its instructions, continuation lines joined."""
    found: dict[str, list[str]] = {}
    name = ""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
            found[name] = []
        found.setdefault(name, []).append(line)
    return found


def test_the_detector_of_compose_has_a_valid_configuration() -> None:
    config = detector_config()
    assert config.kafka.bootstrap_servers == ["kafka:9092"]
    assert config.http.host == "0.0.0.0"


def test_the_trainer_of_compose_serves_the_registries_of_the_detector() -> None:
    config = load_yaml(DEPLOY / "trainer.yaml", TrainerConfig, {})
    assert config.refresh.routes == detector_config().routes
    assert config.refresh.store == detector_config().store.url


def test_prometheus_accepts_its_configuration() -> None:
    path = DEPLOY / "prometheus" / "prometheus.yml"
    subprocess.run([binary("promtool"), "check", "config", str(path)], check=True)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    path = Path(__file__).parent / "alerts.test.yml"
    subprocess.run([binary("promtool"), "test", "rules", str(path)], check=True)


def test_every_metric_of_an_alert_is_one_of_the_detector() -> None:
    path = DEPLOY / "prometheus" / "alerts.yml"
    rules = [
        rule
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
    shown = PrometheusTelemetry().exposition()[1].decode()
    named = {name for rule in rules for name in re.findall(r"stream_detector_\w+", rule["expr"])}
    assert named
    assert all(re.search(rf"^{name}[{{ ]", shown, re.MULTILINE) for name in named)
    outcomes = {text for rule in rules for text in re.findall(r'outcome=~"(.*?)"', rule["expr"])}
    assert outcomes == {"|".join(sorted(DEGRADED))}


def test_prometheus_scrapes_the_port_that_the_detector_opens() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    found = jobs["stream-detector"]["dns_sd_configs"][0]
    port = detector_config().http.port
    assert found["names"] == ["detector"]
    assert found["port"] == port
    assert SERVICES["detector"]["ports"][0].endswith(f":{port}")
    assert f"EXPOSE {port}" in DOCKERFILE
    assert f"'127.0.0.1', {port}" in DOCKERFILE


def test_grafana_knows_the_scrape_interval_and_finds_prometheus_and_the_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text("utf-8"))
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (first,) = source["datasources"]
    assert first["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert first["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((provisioning / "dashboards" / "dashboards.yml").read_text("utf-8"))
    folder = boards["providers"][0]["options"]["path"]
    assert ("./grafana/dashboards", folder, "ro") in mounts(SERVICES["grafana"])
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {f"{folder}/{path.name}" for path in DASHBOARDS}
    assert len({load(path)["uid"] for path in DASHBOARDS}) == len(DASHBOARDS)


def test_services_wait_for_services_that_exist_and_can_reach_that_state() -> None:
    for name, service in SERVICES.items():
        needs = service.get("depends_on", {})
        for other in needs:
            how = needs[other] if isinstance(needs, dict) else {}
            condition = how.get("condition", "service_started")
            target = SERVICES[other]
            if condition == "service_completed_successfully":
                assert target["restart"] == "on-failure", (name, other)
            elif condition == "service_healthy":
                assert "test" in target["healthcheck"], (name, other)
            else:
                assert condition == "service_started"


def test_every_mounted_file_and_volume_exists() -> None:
    for name, service in SERVICES.items():
        for source, target, _ in mounts(service):
            assert target.startswith("/"), name
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_run_without_privileges(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert "user" not in service, "the image's own user is not root"
    assert service["build"]["target"] in stages()
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_only_the_trainer_writes_models_and_only_the_detector_writes_the_store() -> None:
    writers: dict[str, set[str]] = {}
    for name, service in OURS.items():
        for source, _, mode in mounts(service):
            if mode == "rw":
                writers.setdefault(source, set()).add(name)
    assert writers == {"registry": {"trainer", "first-models"}, "store": {"detector"}}


def test_all_topics_are_created_before_they_are_used() -> None:
    script = SERVICES["topics"]["command"][0]
    created = set(re.findall(r"^create (\S+)", script, flags=re.MULTILINE))
    config = detector_config()
    assert created == {*config.input.topics, config.output.topic, config.output.dead_letter_topic}


@pytest.mark.parametrize("name", ["fleet-pump", "fleet-web", "first-models"])
def test_simulations_are_called_with_options_that_exist(name: str) -> None:
    text = SERVICES[name]["command"][0].replace("\\\n", " ").replace("$$", "$")
    subprocess.run(["/bin/sh", "-n", "-c", text], check=True)
    calls = re.findall(r"stream-detector simulate ([^\n]*)", text)
    assert calls
    app = typer.Typer()
    app.command()(simulate)
    command = get_command(app)
    for call in calls:
        command.make_context("simulate", shlex.split(call.replace("$2", "2").replace("$3", "3")))


def test_the_models_are_fitted_on_the_same_machines_as_the_fleet_simulates() -> None:
    script = SERVICES["first-models"]["command"][0]
    for group, count, seed in re.findall(r"^first (\S+) (\d+) (\d+)$", script, re.MULTILINE):
        fleet = SERVICES[f"fleet-{group}"]["command"][0]
        assert f"--only {group} --series {count} --seed {seed} --interval 5s" in fleet
        assert f"registry/{group}" in {
            "/".join(Path(route.registry).parts[-2:]) for route in detector_config().routes
        }


def test_the_image_installs_the_torch_that_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (torch,) = [need for need in project["dependencies"] if need.startswith("torch")]
    assert f'"{torch}"' in DOCKERFILE
    assert {"store", "trainer"} <= project["optional-dependencies"].keys()


def test_images_are_multi_stage_and_end_as_a_numbered_user_without_build_tools() -> None:
    found = stages()
    for target in ("detector", "trainer"):
        assert found[target][0].startswith("FROM base AS")
        assert any(line.startswith("ENTRYPOINT") for line in found[target])
        assert not any("pip install" in line for line in found[target])
    assert "USER 10001:10001" in found["base"]
    assert "apt" not in re.sub(r"[a-z]apt|apt[a-z]", "", DOCKERFILE)
    assert any("HEALTHCHECK" in line and "/livez" in line for line in found["detector"])


def test_the_image_context_holds_all_that_is_copied_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for line in stages()["build"]:
        if line.startswith("COPY "):
            copied |= set(line.split()[1:-1])
    assert ignored[1] == "*"
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_docker_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("no `docker compose` here; install the Compose plugin to run this test")
    file = str(DEPLOY / "compose.yaml")
    subprocess.run([docker, "compose", "-f", file, "config", "--quiet"], check=True)
