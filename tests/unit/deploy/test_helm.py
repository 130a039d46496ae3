"""The chart as Helm renders it, held against the schemas of Kubernetes and against the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from scripts import kafka_users
from streams.acls import rules_of
from streams.cli import COMMANDS
from streams.settings import PREFIX, Settings

helm_python = pytest.importorskip("helm_python", reason="Helm's library is for x86-64 Linux alone")

HELM = Path(__file__).parents[3] / "deploy" / "helm"
CHART = HELM / "sessiontape"
EXAMPLES = HELM / "examples"
VERSIONS = ("1.27", "1.37")
"""The oldest Kubernetes that the chart names, and the newest that there are schemas of."""
OF_OPERATORS = {"ServiceMonitor"}
MODULES = {
    "coordinator": "streams.coordinator",
    "tables": "streams.tables",
    "upkeep": "streams.upkeep",
    "producer": "streams.producer",
    "feeder": "streams.feeder",
    "sink": "sinks",
}
LEAST: Mapping[str, Any] = {"kafka": {"bootstrapServers": "kafka:9092"}}
FULL: Mapping[str, Any] = yaml.safe_load((EXAMPLES / "values.yaml").read_text("utf-8"))
OTHER: Mapping[str, Any] = {
    "kafka": {
        "bootstrapServers": "one:9093,two:9093",
        "securityProtocol": "SSL",
        "tls": {"caSecret": "ca", "clientSecret": "client"},
    },
    "topics": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccount": {"name": "tape"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "desk"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "tape", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "high",
    "workers": {
        "producer": {
            "enabled": True,
            "args": ["--source", "parquet:/bars"],
            "extraVolumes": [{"name": "bars", "persistentVolumeClaim": {"claimName": "bars"}}],
            "extraVolumeMounts": [{"name": "bars", "mountPath": "/bars", "readOnly": True}],
        }
    },
}
CASES = {"least": LEAST, "example": FULL, "other": OTHER}


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others in their place, deep."""
    found = dict(values)
    for name, value in changes.items():
        old = found.get(name)
        is_deep = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[name] = changed(old, value) if is_deep and old else value
    return found


def rendered(values: Mapping[str, Any], name: str = "desk") -> list[dict[str, Any]]:
    """Return the manifests of an installation."""
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(dict(values))
        files = chart.render(dict(values), name=name, namespace="prod")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in manifests:
        if one["kind"] in ("Deployment", "Job"):
            yield one["spec"]["template"]["spec"]


def env_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    names = [one["name"] for one in container["env"]]
    assert len(set(names)) == len(names)
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_what_comes_of_it(case: str, version: str) -> None:
    manifests = rendered(CASES[case])
    assert len({(one["kind"], one["metadata"]["name"]) for one in manifests}) == len(manifests)
    for one in manifests:
        if one["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_would_say_if_it_were_wrong() -> None:
    (job,) = of_kind(rendered(LEAST), "Job").values()
    job["spec"]["template"]["spec"]["contaners"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="contaners"):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def test_helm_finds_nothing_to_say_against_it() -> None:
    assert helm_python.lint(str(CHART))["errors"] == []


def test_the_image_is_of_the_same_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((HELM.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert chart["appVersion"] == project["version"]


def test_all_workers_are_there_by_their_modules_which_are_there_too() -> None:
    found = of_kind(rendered(FULL), "Deployment")
    assert set(found) == {f"desk-sessiontape-{name}" for name in MODULES}
    for name, module in MODULES.items():
        (container,) = found[f"desk-sessiontape-{name}"]["spec"]["template"]["spec"]["containers"]
        more = FULL["workers"].get(name, {}).get("args", [])
        assert container["args"] == ["python", "-P", "-m", module, *more]
        assert importlib.util.find_spec(module) is not None
    assert set(of_kind(rendered(LEAST), "Deployment")) == {
        f"desk-sessiontape-{name}" for name in ("coordinator", "tables", "upkeep")
    }


@pytest.mark.parametrize("case", CASES)
def test_every_variable_is_a_setting(case: str) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for pod in pods(rendered(CASES[case])):
        ours = {name for name in env_of(pod) if name.startswith(PREFIX)}
        assert ours <= known
        assert f"{PREFIX}BOOTSTRAP_SERVERS" in ours


def test_topics_are_made_before_by_a_command_that_there_is() -> None:
    (job,) = of_kind(rendered(FULL), "Job").values()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, command, *options = container["args"]
    assert program == "sessiontape"
    assert command in COMMANDS
    assert options == ["--wait", "120", "--partitions", "4"]
    assert env_of(job["spec"]["template"]["spec"])["SESSIONTAPE_SASL_USERNAME"] == "tape-operator"


def test_the_settings_are_those_that_were_meant() -> None:
    found = of_kind(rendered(FULL), "Deployment")
    for worker in MODULES:
        env = env_of(found[f"desk-sessiontape-{worker}"]["spec"]["template"]["spec"])
        plain: dict[str, Any] = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in env.items()
            if name.startswith(PREFIX) and isinstance(value, str)
        }
        settings = Settings(**plain)
        assert settings.namespace == "tape"
        assert settings.security_protocol == "SASL_SSL"
        assert settings.sasl_username == f"tape-{worker}"
        assert str(settings.ssl_ca_location) == "/etc/sessiontape/ca/ca.crt"
        assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9400)  # noqa: S104
        password = {"secretKeyRef": {"name": f"tape-{worker}", "key": "password"}}
        assert env["SESSIONTAPE_SASL_PASSWORD"] == password
    assert env_of(next(pods(rendered(LEAST, "alone"))))["SESSIONTAPE_NAMESPACE"] == "alone"


@pytest.mark.parametrize("case", CASES)
def test_secrets_come_from_secrets_alone(case: str) -> None:
    secret = {
        f"{PREFIX}{name.upper()}"
        for name, field in Settings.model_fields.items()
        if "Secret" in str(field.annotation) or name == "clickhouse_dsn"
    }
    assert len(secret) >= 5
    for pod in pods(rendered(CASES[case])):
        for name, value in env_of(pod).items():
            assert name not in secret or "secretKeyRef" in value, name
    with pytest.raises(helm_python.HelmError):
        rendered(changed(CASES[case], {"kafka": {"sasl": {"password": "hush"}}}))
    for name in ("SASL_PASSWORD", "CLICKHOUSE_DSN", "ALPACA_SECRET_KEY"):
        with pytest.raises(helm_python.HelmError):
            rendered(changed(CASES[case], {"settings": {name: "hush"}}))


@pytest.mark.parametrize("case", CASES)
def test_no_process_is_root_or_writes_but_where_it_may(case: str) -> None:
    for pod in pods(rendered(CASES[case])):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {one["name"]: one for one in container["volumeMounts"]}
        assert mounts.keys() == {one["name"] for one in pod["volumes"]}
        writable = {one["mountPath"] for one in mounts.values() if not one.get("readOnly")}
        assert writable == {"/data", "/tmp"}
        assert env_of(pod)["SESSIONTAPE_DATA_DIR"] == "/data"
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("case", ["least", "example"])
def test_each_worker_is_asked_how_it_is_and_not_taken_all_at_once(case: str) -> None:
    manifests = rendered(CASES[case])
    budgets = of_kind(manifests, "PodDisruptionBudget")
    for name, one in of_kind(manifests, "Deployment").items():
        spec = one["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        (port,) = container["ports"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
        start, live = container["startupProbe"], container["livenessProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 60
        assert live["failureThreshold"] >= 3
        labels = spec["template"]["metadata"]["labels"]
        for selector in (spec["selector"], budgets[name]["spec"]["selector"]):
            assert selector["matchLabels"].items() <= labels.items()
        assert budgets[name]["spec"]["maxUnavailable"] == 1
    components = [b["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
                  for b in budgets.values()]  # fmt: skip
    assert len(set(components)) == len(components)


def test_metrics_are_found_by_the_monitor_under_the_name_that_the_alerts_have() -> None:
    manifests = rendered(FULL)
    (service,) = of_kind(manifests, "Service").values()
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "sessiontape"
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    for one in of_kind(manifests, "Deployment").values():
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
    (job,) = of_kind(manifests, "Job").values()
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= labels.items()
    assert not of_kind(rendered(LEAST), "ServiceMonitor")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kafka": {"bootstrapServers": ""}}, "bootstrapServers"),
        ({"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
        ({"kafka": {"securityProtocol": "TLS"}}, "securityProtocol"),
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.sasl.username"),
        ({"workers": {"producer": {"enabled": True}}}, "workers.producer.args"),
        ({"workers": {"feeder": {"enabled": True}}}, "workers.feeder.args"),
        ({"workers": {"sink": {"enabled": True}}}, "clickhouse.dsnSecret"),
        ({"workers": {"sink": {"replicas": 2}}}, "replicas"),
        ({"workers": {"cordinator": {"enabled": True}}}, "cordinator"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused_by_its_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(says)):
        rendered(changed(LEAST, changes))


def test_the_examples_name_each_other() -> None:
    kafka = list(yaml.safe_load_all((EXAMPLES / "kafka.yaml").read_text("utf-8")))
    (cluster,) = (one for one in kafka if one["kind"] == "Kafka")
    name, (listener,) = cluster["metadata"]["name"], cluster["spec"]["kafka"]["listeners"]
    assert FULL["kafka"]["bootstrapServers"] == f"{name}-kafka-bootstrap:{listener['port']}"
    assert FULL["kafka"]["tls"]["caSecret"] == f"{name}-cluster-ca-cert"
    users = yaml.safe_load_all(kafka_users.FILE.read_text("utf-8"))
    names = {one["metadata"]["name"] for one in users}
    logins = [worker["sasl"] for worker in FULL["workers"].values()] + [FULL["topics"]["sasl"]]
    assert {login["username"] for login in logins} | {"tape-reader", "tape-sender"} == names
    assert all(login["username"] == login["secret"] for login in logins)
    text = (EXAMPLES / "clickhouse.yaml").read_text("utf-8")
    assert f"secret generic {FULL['clickhouse']['dsnSecret']} " in text


def test_users_of_the_example_may_what_the_table_says() -> None:
    assert kafka_users.FILE.read_text("utf-8") == kafka_users.render()
    users = {
        one["metadata"]["name"]: one["spec"]["authorization"]["acls"]
        for one in yaml.safe_load_all(kafka_users.render())
    }
    for worker, rules in rules_of("tape").items():
        assert len(users[f"tape-{worker}"]) == len(rules)
