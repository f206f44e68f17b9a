"""compose.yaml: a valid file that keeps the promises about secrets, ports, images and health."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.deployment import (
    DOCKER,
    OPEN_VARIABLES,
    command_line,
    secrets_of,
    services,
    variables,
)

SECRET_NAMES = ("PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY")


@pytest.fixture(scope="module")
def composed() -> dict[str, dict[str, Any]]:
    return services(secrets_of())


def is_valid(file: Path) -> bool:
    schema = ("--builtin-schema", "vendor.compose-spec")
    checker = [sys.executable, "-m", "check_jsonschema", *schema, str(file)]
    return subprocess.run(checker, capture_output=True, check=False).returncode == 0


def test_it_keeps_to_the_compose_specification(tmp_path: Path) -> None:
    assert is_valid(DOCKER / "compose.yaml")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("retries:", "retry:"))
    assert not is_valid(wrong)


def test_each_secret_must_be_given() -> None:
    asked = variables()
    assert {name for name, operators in asked.items() if operators != {"?"}} == OPEN_VARIABLES
    given = secrets_of()
    assert len(given) == 7
    for name in given:
        with pytest.raises(KeyError, match=name):
            services({**given, name: ""})


def test_no_secret_is_written_down(composed: dict[str, dict[str, Any]]) -> None:
    given = set(secrets_of().values())
    for name, service in composed.items():
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in SECRET_NAMES):
                assert value in given, (name, key)
        # a command line is seen by every process of its machine
        assert not [part for part in command_line(service) if "secret-" in part], name


def test_the_example_names_every_variable_and_gives_no_value() -> None:
    lines = (DOCKER / ".env.example").read_text().splitlines()
    names = {line.strip("#=") for line in lines if line.endswith("=") and " " not in line}
    assert names == set(variables())
    assert not [line for line in lines if "=" in line and not line.endswith("=")]
    for ignoring in (".gitignore", "Dockerfile.dockerignore"):
        ignored = (DOCKER / ignoring).read_text().splitlines()
        assert {".env", "**/.env"} & set(ignored), ignoring


def test_ports_are_opened_on_loopback_unless_asked(composed: dict[str, dict[str, Any]]) -> None:
    ports = {name: service["ports"] for name, service in composed.items() if "ports" in service}
    assert set(ports) == {"mlflow", "head", "dashboard"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)
    asked = services({**secrets_of(), "BIND": "10.0.0.5"})
    assert asked["mlflow"]["ports"] == ["10.0.0.5:5000:5000"]
    assert not [name for name, service in composed.items() if "network_mode" in service]


def test_only_mlflow_reaches_the_database_and_the_store(
    composed: dict[str, dict[str, Any]],
) -> None:
    inside = {name for name, service in composed.items() if "storage" in service["networks"]}
    assert inside == {"postgres", "store", "bucket", "mlflow"}
    assert composed["postgres"]["networks"] == composed["store"]["networks"] == ["storage"]


def test_images_are_pinned_and_not_roots(composed: dict[str, dict[str, Any]]) -> None:
    for name, service in composed.items():
        tag = service["image"].rpartition(":")[2]
        assert tag.count(".") >= 1, name
        assert tag[0].isdigit(), name
        assert not service.keys() & {"privileged", "user", "cap_add"}, name
        if "build" in service:
            assert service["cap_drop"] == ["ALL"]
    lines = [line.split() for line in (DOCKER / "Dockerfile").read_text().splitlines() if line]
    (base,) = [words[1] for words in lines if words[0] == "FROM"]
    assert base.count(".") == 2, base
    users = [words[1] for words in lines if words[0] == "USER"]
    assert int(users[-1].partition(":")[0]) > 0
    assert not [words for words in lines if words[0] == "ARG"]


def test_health_is_that_of_the_api(composed: dict[str, dict[str, Any]]) -> None:
    for name, service in composed.items():
        assert ("healthcheck" in service) == (service["restart"] != "no"), name
        for other, wait in service.get("depends_on", {}).items():
            healthy = wait["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in composed[other]), (name, other)
    for name in ("mlflow", "dashboard"):
        service = composed[name]
        assert "check_mlflow.py" in " ".join(service["healthcheck"]["test"])
        account = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
        assert account <= service["environment"].keys()


def test_the_server_asks_who_calls_and_by_what_name(
    composed: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = composed["mlflow"]
    options = dict(part.split("=", 1) for part in mlflow["command"])
    assert options["--app-name"] == "basic-auth"
    assert "*" not in options["--allowed-hosts"]
    address = mlflow["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert address in options["--allowed-hosts"].split(",")
    assert mlflow["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert mlflow["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    # it imports MLflow's server
    from mlflow.server.auth.config import read_auth_config

    accounts = DOCKER / Path(mlflow["environment"]["MLFLOW_AUTH_CONFIG_PATH"]).name
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(accounts))
    # where MLflow does not know the name, each request costs a third of a second
    assert read_auth_config().auth_cache_ttl_seconds > 0


def test_every_ray_has_the_token_and_sends_no_statistics(
    composed: dict[str, dict[str, Any]],
) -> None:
    nodes = {n: s for n, s in composed.items() if command_line(s)[:2] == ["ray", "start"]}
    assert set(nodes) == {"head", "worker", "gpu-worker"}
    for node in nodes.values():
        environment = node["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"] == "secret-RAY_AUTH_TOKEN"
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"


def test_workers_come_with_and_without_gpus(composed: dict[str, dict[str, Any]]) -> None:
    assert composed["worker"]["profiles"] == ["cpu"]
    assert "deploy" not in composed["worker"]
    assert composed["gpu-worker"]["profiles"] == ["gpu"]
    reserved = composed["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in reserved] == [["gpu"]]
    shared = {n: s["volumes"] for n, s in composed.items() if "worker" in n or n == "head"}
    for volumes in shared.values():
        assert {"runs:/app/runs", "data:/app/data"} <= set(volumes)
