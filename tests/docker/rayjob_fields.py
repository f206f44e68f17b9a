"""The fields of a RayJob, as KubeRay's API reference of version 1.7 lists them, as a JSON schema.

No package ships the definition itself. Pod templates are left to Kubernetes' own schemas; what is
rarely used is left out, so that a file with it is refused until it is added here.
"""

from __future__ import annotations

from typing import Any

WHOLE = {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
TEMPLATE = {"type": "object", "required": ["spec"]}


def _object(required: str = "", **fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


AUTH_OPTIONS = _object(
    mode={"enum": ["token", "disabled"]},
    secretName={"type": "string"},
    enableK8sTokenAuth={"type": "boolean"},
)
HEAD_GROUP = _object(
    "template",
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    enableIngress={"type": "boolean"},
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
WORKER_GROUP = _object(
    "groupName template",
    groupName={"type": "string"},
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    priority={"type": "integer"},
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = _object(
    "headGroupSpec",
    authOptions=AUTH_OPTIONS,
    rayVersion={"type": "string"},
    enableInTreeAutoscaling={"type": "boolean"},
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
)
JOB = _object(
    "entrypoint rayClusterSpec",
    entrypoint={"type": "string"},
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=_object(backoffLimit=WHOLE),
    submitterPodTemplate=TEMPLATE,
    runtimeEnvYAML={"type": "string"},
    backoffLimit=WHOLE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=WHOLE,
    suspend={"type": "boolean"},
    metadata=TEXTS,
    rayClusterSpec=CLUSTER,
)
RAY_JOB = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata={"type": "object", "required": ["name"]},
    spec=JOB
    | {
        # KubeRay refuses a time to live of a cluster that stays
        "if": {"required": ["ttlSecondsAfterFinished"]},
        "then": {
            "required": ["shutdownAfterJobFinishes"],
            "properties": {"shutdownAfterJobFinishes": {"const": True}},
        },
    },
)
