"""kuberay.yaml: fields that KubeRay and Kubernetes know, and the promises about them."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.docker.deployment import DOCKER, secrets_of, services
from tests.docker.rayjob_fields import RAY_JOB

KUBERNETES = "1.31"


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    parts = yaml.safe_load_all((DOCKER / "kuberay.yaml").read_text())
    return {part["kind"]: part for part in parts}


@pytest.fixture(scope="module")
def job(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = documents["RayJob"]["spec"]
    return spec


@pytest.fixture(scope="module")
def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]}
    groups |= {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def as_pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def test_kuberay_knows_every_field(documents: dict[str, dict[str, Any]]) -> None:
    jsonschema.validate(documents["RayJob"], RAY_JOB)
    wrong = copy.deepcopy(documents["RayJob"])
    wrong["spec"]["shutdownAfterJobFinishes"] = False
    with pytest.raises(jsonschema.ValidationError, match="True was expected"):
        jsonschema.validate(wrong, RAY_JOB)
    wrong = copy.deepcopy(documents["RayJob"])
    wrong["spec"]["rayClusterSpec"]["authOption"] = {}
    with pytest.raises(jsonschema.ValidationError, match="authOption"):
        jsonschema.validate(wrong, RAY_JOB)


def test_kubernetes_knows_every_field(
    documents: dict[str, dict[str, Any]], pods: dict[str, dict[str, Any]]
) -> None:
    claim = documents["PersistentVolumeClaim"]
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    for spec in pods.values():
        kubernetes_validate.validate(as_pod(spec), KUBERNETES, strict=True)
        wrong = as_pod({**spec, "restartsPolicy": "Never"})
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    # checkpoints move with their trials
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for spec in pods.values():
        (volume,) = spec["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_a_sweep_is_tried_again_and_cleared_away(job: dict[str, Any]) -> None:
    assert job["entrypoint"].split()[:2] == ["switokd", "sweep"]
    assert (Path(__file__).parents[2] / job["entrypoint"].split()[2]).is_file()
    assert job["backoffLimit"] >= 1
    assert job["shutdownAfterJobFinishes"]
    assert job["ttlSecondsAfterFinished"] > 0


def test_ray_asks_for_its_token_and_secrets_are_references(
    job: dict[str, Any], pods: dict[str, dict[str, Any]]
) -> None:
    authentication = job["rayClusterSpec"]["authOptions"]
    assert authentication["mode"] == "token"
    assert authentication["secretName"]
    for spec in pods.values():
        for container in spec["containers"]:
            for variable in container["env"]:
                if re.search(r"PASSWORD|USERNAME|SECRET|TOKEN|KEY|URI", variable["name"]):
                    assert variable["valueFrom"]["secretKeyRef"].keys() == {"name", "key"}


def test_pods_are_limited_and_not_roots(pods: dict[str, dict[str, Any]]) -> None:
    for spec in pods.values():
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        for container in spec["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    (worker,) = pods["gpu"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_versions_are_those_of_the_project(
    job: dict[str, Any], pods: dict[str, dict[str, Any]]
) -> None:
    root = Path(__file__).parents[2]
    assert f"ray=={job['rayClusterSpec']['rayVersion']}" in (root / "constraints.txt").read_text()
    image = services(secrets_of())["head"]["image"]
    assert f'version = "{image.partition(":")[2]}"' in (root / "pyproject.toml").read_text()
    assert {c["image"] for spec in pods.values() for c in spec["containers"]} == {image}
