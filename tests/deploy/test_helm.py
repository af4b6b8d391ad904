"""The Helm chart, rendered by Helm's own engine in every shape, and held against Kubernetes' schemas and our settings."""

from __future__ import annotations

import copy
import math
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from space2vec.schemas.settings import Settings
from space2vec.stream.cli import app
from space2vec.stream.config import load_settings

helm = pytest.importorskip("helm_python", reason="no helm-python-sdk: the chart is not rendered")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate: the chart is not held against schemas"
    )

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "space2vec"
KUBERNETES = "1.34"

Values = dict[str, Any]
Resource = dict[str, Any]


def merged(base: Values, over: Values) -> Values:
    out = copy.deepcopy(base)
    for key, value in over.items():
        out[key] = (
            merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
        )
    return out


BASE: Values = {"settings": {"source": {"brokers": "kafka:9092", "topics": ["ztf-alerts"]}}, "partitions": 16}
GPU: Values = {
    "settings": {"ray": {"classifiers": 3, "gpus_per_classifier": 0.5}, "model": {"device": "cuda"}}
}
SECURED: Values = {
    "settings": {"source": {"username": "night"}, "sink": {"brokers": "ours:9093", "username": "us"}},
    "secrets": {
        "source": {"name": "theirs", "caKey": "ca.crt"},
        "sink": {"name": "ours", "passwordKey": "pw"},
    },
}
ALL_OPERATORS: Values = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "strimzi": {
        "enabled": True,
        "cluster": "kafka",
        "user": "night",
        "topics": [
            {"name": "ztf_annotated", "partitions": 8, "replicas": 3, "config": {"retention.ms": 1000}}
        ],
    },
}
KEDA: Values = {
    "settings": {"source": {"username": "night"}},
    "secrets": {"source": {"name": "theirs", "caKey": "ca.crt"}},
    "keda": {"enabled": True, "maxReplicas": 8},
}
KUBERAY: Values = {"mode": "kuberay"}
SHAPES: dict[str, Values] = {
    "cpu": BASE,
    "gpu": merged(BASE, GPU),
    "secured": merged(BASE, SECURED),
    "operators": merged(BASE, ALL_OPERATORS),
    "keda": merged(BASE, KEDA),
    "kuberay": merged(BASE, KUBERAY),
    "kuberay-gpu-secured": merged(merged(merged(BASE, KUBERAY), GPU), SECURED),
}


@pytest.fixture(scope="module")
def chart() -> Iterator[Any]:
    with helm.Chart.load(str(CHART)) as chart:
        yield chart


def rendered(chart: Any, values: Values) -> dict[tuple[str, str], Resource]:
    """Every resource, by kind and name."""
    texts = chart.render(values, name="night", namespace="alerts").values()
    resources = [resource for text in texts for resource in yaml.safe_load_all(text) if resource]
    found = {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}
    assert len(found) == len(resources)
    return found


def one(chart: Any, values: Values, kind: str) -> Resource:
    (resource,) = [resource for (k, _), resource in rendered(chart, values).items() if k == kind]
    return resource


def pods(resource: Resource) -> Iterator[Resource]:
    """Yield every pod template in a resource."""
    spec = resource.get("spec", {})
    if "template" in spec and "spec" in spec["template"]:
        yield spec["template"]
    if resource["kind"] == "RayCluster":
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            yield group["template"]


def all_pods(chart: Any, values: Values) -> list[Resource]:
    found = [pod for resource in rendered(chart, values).values() for pod in pods(resource)]
    assert found
    return found


def service_container(pod: Resource) -> Resource:
    (container,) = [c for c in pod["spec"]["containers"] if c["name"] == "space2vec"]
    return container


@pytest.mark.parametrize("shape", SHAPES)
def test_kubernetes_takes_what_is_rendered(chart: Any, shape: str) -> None:
    for resource in rendered(chart, SHAPES[shape]).values():
        core = "." not in resource["apiVersion"].partition("/")[0] or resource["apiVersion"].startswith(
            ("networking.k8s.io", "rbac.authorization.k8s.io")
        )
        if core:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        for pod in pods(resource):
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod["spec"]}
            kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_settings_file_is_what_the_service_reads(
    chart: Any, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = SHAPES[shape]
    text = one(chart, values, "ConfigMap")["data"]["settings.yaml"]
    mounted = {m["mountPath"] for p in all_pods(chart, values) for m in service_mounts(p)}
    for section in ("source", "sink"):
        folder = tmp_path / section
        folder.mkdir()
        for name in ("password", "pw", "ca.crt"):
            (folder / name).write_text("secret")
        if f"secrets/{section}" in text:
            assert f"/etc/space2vec/secrets/{section}" in mounted
    (tmp_path / "settings.yaml").write_text(text.replace("/etc/space2vec/secrets", str(tmp_path)))
    settings = load_settings(tmp_path / "settings.yaml")
    assert settings.source.topics == ("ztf-alerts",)
    assert settings.metrics.port == 9108
    for section, given in values["settings"].items():
        for name, value in given.items():
            told = getattr(getattr(settings, section), name)
            assert told == (tuple(value) if isinstance(value, list) else value)
    if "secured" in shape:
        assert settings.source.options["ssl.ca.location"] == f"{tmp_path}/source/ca.crt"
        assert settings.sink.password_file == tmp_path / "sink" / "pw"
        assert "secret" not in text.replace("/etc/space2vec/secrets", "")


def service_mounts(pod: Resource) -> list[Resource]:
    return [mount for container in pod["spec"]["containers"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_container_is_hardened_and_drains(chart: Any, shape: str) -> None:
    for pod in all_pods(chart, SHAPES[shape]):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        assert spec["terminationGracePeriodSeconds"] == Settings().stream.drain_s + 35
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
            assert writable == {"/tmp", "/dev/shm"}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_service_is_probed_reached_and_started_as_it_is_made(
    chart: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rendered(chart, SHAPES[shape])
    (pod,) = [
        p for p in all_pods(chart, SHAPES[shape]) if p["metadata"]["labels"]["space2vec/role"] == "service"
    ]
    container = service_container(pod)
    (port,) = container["ports"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == {port["name"]}
    service = found["Service", "night-space2vec"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    app.parse_args(container["args"], exit_on_error=False, print_error=False)
    for variable in container["env"]:
        if variable["name"].startswith("SPACE2VEC_"):
            monkeypatch.setenv(variable["name"], variable.get("value", "name"))
    assert load_settings().stream.instance in ("name", "night-space2vec")


def test_gpus_are_asked_for_as_the_classifiers_need_them(chart: Any) -> None:
    (pod,) = all_pods(chart, SHAPES["gpu"])
    container = service_container(pod)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == math.ceil(3 * 0.5)
    assert container["image"].endswith("-cuda")
    (pod,) = all_pods(chart, merged(SHAPES["gpu"], {"settings": {"ray": {"max_classifiers": 8}}}))
    assert service_container(pod)["resources"]["limits"]["nvidia.com/gpu"] == math.ceil(8 * 0.5)
    (pod,) = all_pods(chart, BASE)
    assert "nvidia.com/gpu" not in service_container(pod)["resources"]["limits"]
    assert service_container(pod)["image"].endswith("-cpu")


def test_kuberay_has_a_gpu_group_only_with_gpus_and_ray_outlives_the_drain(chart: Any) -> None:
    groups = one(chart, SHAPES["kuberay"], "RayCluster")["spec"]["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == ["cpu"]
    cluster = one(chart, SHAPES["kuberay-gpu-secured"], "RayCluster")["spec"]
    assert [group["groupName"] for group in cluster["workerGroupSpecs"]] == ["cpu", "gpu"]
    gpu = cluster["workerGroupSpecs"][1]
    assert gpu["rayStartParams"]["num-gpus"] == "1"
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["name"] == "ray-head"
    for pod in all_pods(chart, SHAPES["kuberay"]):
        ray = pod["spec"]["containers"][0]
        slept = int(ray["lifecycle"]["preStop"]["exec"]["command"][1])
        assert Settings().stream.drain_s + 5 < slept < pod["spec"]["terminationGracePeriodSeconds"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert cluster["rayVersion"] == pins["ray"]


def test_the_grace_follows_the_drain_budget(chart: Any) -> None:
    values = merged(BASE, {"settings": {"stream": {"drain_s": 90.5}}})
    (pod,) = all_pods(chart, values)
    assert pod["spec"]["terminationGracePeriodSeconds"] == 126


def test_ray_is_reached_by_nobody_else(chart: Any) -> None:
    (rule,) = one(chart, BASE, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [9108]
    metrics, own = one(chart, SHAPES["kuberay"], "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in metrics["ports"]] == [9108]
    assert len(own["from"]) == 2


def test_keda_scales_the_pods_by_the_groups_lag(chart: Any) -> None:
    found = rendered(chart, SHAPES["keda"])
    scaled = found["ScaledObject", "night-space2vec"]["spec"]
    stateful = found["StatefulSet", "night-space2vec"]
    assert scaled["scaleTargetRef"] == {"kind": "StatefulSet", "name": stateful["metadata"]["name"]}
    assert "replicas" not in stateful["spec"]  # they are KEDA's
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["consumerGroup"] == Settings().source.group
    assert trigger["metadata"]["topic"] == "ztf-alerts"
    login = found["TriggerAuthentication", trigger["authenticationRef"]["name"]]["spec"]
    (user,) = login["env"]
    environment = {e["name"]: e.get("value") for e in service_container(next(pods(stateful)))["env"]}
    assert environment[user["name"]] == "night"
    assert {ref["parameter"]: ref["key"] for ref in login["secretTargetRef"]} == {
        "password": "password",
        "ca": "ca.crt",
    }


def test_strimzi_makes_topics_and_a_user_with_no_more_rights_than_needed(chart: Any) -> None:
    found = rendered(chart, SHAPES["operators"])
    topic = found["KafkaTopic", "ztf-annotated"]  # a resource's name has no underscore
    assert topic["spec"]["topicName"] == "ztf_annotated"
    assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "kafka"
    acls = found["KafkaUser", "night"]["spec"]["authorization"]["acls"]
    rights = {
        (a["resource"]["type"], a["resource"]["name"], a["resource"]["patternType"]): a["operations"]
        for a in acls
    }
    assert rights == {
        ("topic", "ztf-alerts", "literal"): ["Read", "Describe"],
        ("group", "space2vec", "literal"): ["Read", "Describe"],
        ("topic", "ztf_annotated", "literal"): ["Read", "Write", "Describe", "DescribeConfigs"],
        ("transactionalId", "space2vec.", "prefix"): ["Write", "Describe"],
    }


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"replicas": 5, "settings": {"ray": {"workers": 4}}},
            "5 pods of 4 stream workers for 16 partitions",
        ),
        (merged(KEDA, {"keda": {"maxReplicas": 17}}), "17 pods of 1 stream workers for 16 partitions"),
        ({"settings": {"ray": {"max_workers": 17}}}, "1 pods of 17 stream workers for 16 partitions"),
        (merged(KUBERAY, {"settings": {"ray": {"workers": 17}}}), "1 pods of 17 stream workers"),
        (merged(KUBERAY, KEDA), "keda.enabled goes with mode pods"),
        (merged(KEDA, {"keda": {"minReplicas": 9}}), "keda.minReplicas is more than"),
        (merged(KEDA, {"settings": {"sink": {"brokers": "ours:9092"}}}), "source and sink on one cluster"),
        ({"settings": {"source": {"username": "me"}}}, "name the Secret with its password"),
        ({"strimzi": {"enabled": True}}, "strimzi.cluster"),
        ({"settings": {"source": {"brokers": ""}}}, "/settings/source/brokers"),
        ({"settings": {"source": {"password": "no"}}}, "/settings/source/password"),
        ({"settings": {"metrics": {"port": 1}}}, "/settings/metrics"),
        ({"replica": 3}, "replica"),
        ({"mode": "deployment"}, "/mode"),
    ],
)
def test_what_would_not_do_what_was_meant_is_refused(chart: Any, values: Values, complaint: str) -> None:
    with pytest.raises(helm.HelmError, match=complaint):
        chart.render(merged(BASE, values), name="night", namespace="alerts")


def test_sixteen_workers_for_sixteen_partitions_are_not_too_many(chart: Any) -> None:
    values = merged(BASE, {"replicas": 4, "settings": {"ray": {"workers": 4}}})
    assert one(chart, values, "StatefulSet")["spec"]["replicas"] == 4


def test_helm_lints_it(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(CHART, tmp_path / "space2vec")
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    (tmp_path / "space2vec" / "values.yaml").write_text(yaml.safe_dump(merged(values, BASE)))
    told = helm.lint(str(tmp_path / "space2vec"))
    assert not told["errors"], told["errors"]
    assert [m["error"] for m in told["messages"] if m["severity"] > 1] == []


def test_the_chart_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert described["appVersion"] == described["version"] == project["version"]


def test_the_sections_of_settings_are_those_of_the_code() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["settings"]["properties"]) == set(Settings.model_fields)
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))
