"""What a Kubernetes cluster with KubeRay's operator takes.

`ray.io_rayjobs.yaml.gz` is `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of KubeRay v1.7.0-rc.0 as it is there,
under the Apache License 2.0."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CRD = Path(__file__).with_name("ray.io_rayjobs.yaml.gz")


@cache
def schema() -> Any:
    """The schema of a RayJob as the API server has it, which refuses what is not in it, as kubectl asks it to."""

    def strict(node: Any) -> Any:
        if isinstance(node, list):
            return [strict(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: strict(value) for key, value in node.items()}
        if node.get("x-kubernetes-int-or-string"):
            node.pop("type", None)
            node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        free = "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields")
        if node.get("type") == "object" and "properties" in node and not free:
            node["additionalProperties"] = False
        return node

    crd = yaml.load(gzip.decompress(CRD.read_bytes()), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    made = strict(version["schema"]["openAPIV3Schema"])
    names = {"name": {"type": "string"}, "namespace": {"type": "string"}}
    labels = {"labels": {"type": "object", "additionalProperties": {"type": "string"}}}
    metadata = {"type": "object", "additionalProperties": False, "required": ["name"], "properties": names | labels}
    made["properties"] |= {"metadata": metadata, "apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayJob"}}
    templates = [made["properties"]["spec"]["properties"]["rayClusterSpec"]["properties"]]
    groups = [templates[0]["headGroupSpec"], templates[0]["workerGroupSpecs"]["items"]]
    for group in groups:  # left open in the CRD
        group["properties"]["template"]["properties"]["metadata"] = {"type": "object", "properties": labels}
    return jsonschema.Draft202012Validator(made)


def refused_by_operator(made: dict[str, Any]) -> list[str]:
    """What `utils/validation.go` of the operator would say."""
    name, spec = made["metadata"]["name"], made["spec"]
    cluster = spec["rayClusterSpec"]
    mode, shuts = spec.get("submissionMode", "K8sJobMode"), spec.get("shutdownAfterJobFinishes", False)
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    checks = {
        "name": len(name) <= 47 and bool(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)),
        "suspend": not spec.get("suspend") or (shuts and mode != "InteractiveMode"),
        "ttl": not spec.get("ttlSecondsAfterFinished") or shuts,
        "ttl is not negative": spec.get("ttlSecondsAfterFinished", 0) >= 0,
        "deadline": spec.get("activeDeadlineSeconds", 1) > 0,
        "backoff": "clusterSelector" not in spec and mode != "InteractiveMode" and spec.get("backoffLimit", 0) >= 0,
        "entrypoint": bool(spec.get("entrypoint")) and "runtimeEnvYAML" not in spec,
        "replicas": all(g["minReplicas"] <= g["replicas"] <= g["maxReplicas"] for g in groups),
        "groups": len({g["groupName"] for g in groups}) == len(groups),
        "containers": all(len(g["template"]["spec"]["containers"]) > 0 for g in (head, *groups)),
        "resources": not any("resources" in g for g in (head, *groups)),
        "token": cluster["authOptions"] != {"mode": "token"} or _version(cluster["rayVersion"]) >= (2, 52),
    }
    return [rule for rule, holds in checks.items() if not holds]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
