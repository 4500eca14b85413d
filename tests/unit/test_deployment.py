"""The output of `flowq export` and examples/deploy: valid by Kubernetes schemas, and beyond what schemas check."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from flowq.broker.inspection.edge_stats import EdgeStats
from flowq.broker.inspection.merging.shards_seen import ShardsSeen
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import EdgeState, Snapshot
from flowq.broker.runs import StageBalance
from flowq.broker.shards.every_shard import SilentShard
from flowq.deployment.compose import compose
from flowq.deployment.kubernetes import kubernetes
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.exposition import families
from flowq.monitoring.reading import Reading
from flowq.monitoring.worker_health import WorkerHealth
from pipelines.scrape import scrape
from tests.requirements import unavailable

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
DASHBOARD: Any = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
PLAN: Plan = scrape.plan


def yaml_documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def manifests(kind: str) -> dict[str, Any]:
    exported = kubernetes(PLAN, image="shop:1", namespace="prod", replicas=7)
    text = exported + "---\n" + (DEPLOY / "exporter.yaml").read_text()
    return {found["metadata"]["name"]: found for found in yaml_documents(text) if found["kind"] == kind}


def composed(plan: Plan = PLAN, claim_store: str | None = None) -> Any:
    """The model that Docker Compose makes of the example and the exported file."""
    base = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    exported = yaml.safe_load(compose(plan, image="shop:1", claim_store=claim_store))
    assert base["services"].keys().isdisjoint(exported["services"])
    return {key: base.get(key, {}) | exported.get(key, {}) for key in ("services", "volumes")}


# Kubernetes


def test_each_stage_is_a_deployment_of_its_own_and_each_source_a_job() -> None:
    deployments = manifests("Deployment")

    assert deployments.keys() == {"scrape-fetch", "scrape-parse", "scrape-store", "flowq-exporter"}
    assert manifests("Job").keys() == {"scrape-seeds"}
    container = deployments["scrape-fetch"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:4] == ["run", "scrape", "--stage", "fetch"]
    assert container["image"] == "shop:1"
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "flowq-redis", "key": "url"}


def test_process_1_of_each_container_collects_what_others_leave_behind() -> None:
    for name, service in composed()["services"].items():
        assert service.get("init") is True or name == "redis", name
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "--", "flowq"]' in dockerfile
    for deployment in manifests("Deployment").values():  # arguments to the entry point of the image
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert "command" not in container


def test_a_pod_has_longer_to_stop_than_its_messages_have_to_finish() -> None:
    for deployment in manifests("Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        args = pod["containers"][0]["args"]
        if "--grace" in args:
            assert pod["terminationGracePeriodSeconds"] > float(args[args.index("--grace") + 1].removesuffix("s")) + 2
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_each_stage_is_scaled_on_its_ready_messages_as_the_exporter_tells_them() -> None:
    exposed = text_of(families([reading()]))
    scaled = manifests("ScaledObject")

    assert scaled.keys() == {"scrape-fetch", "scrape-parse", "scrape-store"}
    for name, found in scaled.items():
        assert found["spec"]["scaleTargetRef"]["name"] in manifests("Deployment")
        assert found["spec"]["maxReplicaCount"] == 7
        (trigger,) = found["spec"]["triggers"]
        told = trigger["metadata"]
        assert told["url"] == "http://flowq-exporter.prod.svc:9100/metrics"
        assert all(isinstance(value, str) for value in told.values()), name  # KEDA takes nothing else
        # The same words as the exporter, in its order of labels: KEDA looks for exactly these.
        assert f"{told['valueLocation']} 3.0" in exposed, name
    ((name, service),) = manifests("Service").items()
    assert name == "flowq-exporter"
    assert service["spec"]["ports"][0]["port"] == 9100


def claiming() -> Plan:
    return replace(PLAN, stages=tuple(replace(stage, claim_above=100_000) for stage in PLAN.stages))


def test_large_bodies_in_a_bucket_need_no_volume() -> None:
    url = "s3://bodies/shop"
    text = kubernetes(claiming(), image="shop:1", namespace="prod", replicas=7, claim_store=url)
    found = yaml_documents(text)
    assert "PersistentVolumeClaim" not in text
    for each in found:
        if each["kind"] in ("Deployment", "Job"):
            pod = each["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            assert "volumes" not in pod
            assert {"name": "FLOWQ_CLAIM_STORE", "value": url} in container["env"]
            assert container["envFrom"] == [{"secretRef": {"name": "flowq-claims", "optional": True}}]

    found = composed(claiming(), url)
    assert found["volumes"].keys() == {"redis"}
    for name, service in found["services"].items():
        if name not in ("redis", "exporter"):
            assert service["environment"]["FLOWQ_CLAIM_STORE"] == url
            assert service["env_file"] == [{"path": "claims.env", "required": False}]


def test_all_pods_of_a_pipeline_with_large_bodies_share_a_volume_and_others_have_none() -> None:
    found = yaml_documents(kubernetes(claiming(), image="shop:1", namespace="prod", replicas=7))
    (volume,) = [each for each in found if each["kind"] == "PersistentVolumeClaim"]
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    for each in found:
        if each["kind"] in ("Deployment", "Job"):
            pod = each["spec"]["template"]["spec"]
            ((mounted,), (container,)) = pod["volumes"], pod["containers"]
            assert mounted["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
            assert {"name": "FLOWQ_CLAIM_STORE", "value": "/claims"} in container["env"]
            assert container["volumeMounts"] == [{"name": mounted["name"], "mountPath": "/claims"}]

    found = composed(claiming())
    assert found["volumes"].keys() == {"redis", "claims"}
    for name, service in found["services"].items():
        if name not in ("redis", "exporter"):
            assert service["environment"]["FLOWQ_CLAIM_STORE"] == "/claims"
            assert service["volumes"] == ["claims:/claims"]
    assert "/claims" in (DEPLOY / "Dockerfile").read_text()
    assert "claims" not in kubernetes(PLAN, image="shop:1", namespace="prod", replicas=7) + compose(PLAN, image="a")


def test_a_job_asks_for_the_arguments_of_its_source_and_is_not_repeated_for_dead_letters() -> None:
    (job,) = manifests("Job").values()

    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--arg") + 1] == "url=CHANGE-ME"
    assert "--drain" in args
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_kubernetes_schemas_take_the_manifests(version: str) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        unavailable("no kubernetes-validate", "pip install kubernetes-validate")
    written = [found for kind in ("Deployment", "Job", "Service") for found in manifests(kind).values()]
    for found in (*written, *yaml_documents((DEPLOY / "dashboard.yaml").read_text())):
        kubernetes_validate.validate(found, version, strict=True)


# Compose


def test_the_compose_files_keep_what_redis_has_and_run_each_stage() -> None:
    services = composed()["services"]

    assert services.keys() == {"redis", "seeds", "fetch", "parse", "store", "exporter"}
    assert services["redis"]["command"] == [
        "redis-server", "--appendonly", "yes", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    assert services["redis"]["volumes"] == ["redis:/data"]
    assert services["parse"]["command"][:4] == ["run", "scrape", "--stage", "parse"]
    assert services["parse"]["healthcheck"]["test"] == ["CMD", "flowq", "healthcheck", "scrape"]
    assert services["exporter"]["ports"] == ["127.0.0.1:9100:9100"]
    assert services["seeds"]["restart"] == "no"
    for name, service in services.items():
        if name != "redis":
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
            assert (service["security_opt"], service["cap_drop"]) == (["no-new-privileges:true"], ["ALL"])


def test_the_schema_of_compose_accepts_the_files(tmp_path: Path) -> None:
    exported = tmp_path / "compose.override.yaml"
    exported.write_text(compose(PLAN, image="shop:1"))

    assert refused_by_compose(DEPLOY / "compose.yaml", DEPLOY / "compose.dashboard.yaml", exported) == ""
    exported.write_text(exported.read_text().replace("depends_on:", "dependson:"))
    assert "dependson" in refused_by_compose(exported)


def refused_by_compose(*files: Path) -> str:
    """What the schema of Compose finds wrong with files."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *map(str, files)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 1), checked.stderr
    return checked.stdout if checked.returncode else ""


# The examples


def test_the_web_page_is_never_without_a_token_and_reached_from_this_machine_alone() -> None:
    service = yaml.safe_load((DEPLOY / "compose.dashboard.yaml").read_text())["services"]["dashboard"]
    deployment, _ = yaml_documents((DEPLOY / "dashboard.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert service["environment"]["FLOWQ_DASHBOARD_TOKEN"].startswith("${FLOWQ_DASHBOARD_TOKEN:?")
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["command"] == container["args"] == ["dashboard", "--listen", "0.0.0.0:8080"]
    assert "secretKeyRef" in {each["name"]: each for each in container["env"]}["FLOWQ_DASHBOARD_TOKEN"]["valueFrom"]


def test_the_image_runs_as_a_number_that_is_not_root_and_has_a_healthcheck() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()

    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") and '["flowq", "healthcheck"]' in line for line in lines)
    assert lines.index("USER 10001:10001") < lines.index('ENTRYPOINT ["tini", "--", "flowq"]')


# The dashboard


def reading() -> Reading:
    """Every metric has a value in it."""
    names = [stage.name for stage in PLAN.stages]
    edges = [edge.name for edge in PLAN.edges]
    inlets = {edge.name for edge in PLAN.edges if edge.is_inlet}
    snapshot = Snapshot({}, {}, (), 0, dict.fromkeys(edges, EdgeState(3, 1, 2)), dict.fromkeys(names, 1))
    silent = SilentShard(2, "redis://gone:6379", BrokerUnavailable("gone"))
    return Reading(
        plan=PLAN,
        snapshot=snapshot,
        balances=dict.fromkeys(names, StageBalance(entered=9, ok=2, waiting=2, delayed=4)),
        throughput=dict.fromkeys(names, Throughput(1.0, 0.1, 0.2)),
        due={edge: int(edge in inlets) for edge in edges},
        edge_stats=dict.fromkeys(edges, EdgeStats(0, None, 1000, {})),
        workers=[WorkerHealth("w1", "host", 1, "", has_lease=True, silent_seconds=0.0)],
        shards=ShardsSeen({0: snapshot, 1: snapshot}, [silent], in_transit={(0, 1): 2}, lost={(1, 0): 1}),
    )


def text_of(found: Any) -> str:
    lines: list[str] = []
    for family in found:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            lines.append(f"{sample.name}{{{labels}}} {float(sample.value)}")
    return "\n".join(lines)


def exposed() -> dict[str, set[str]]:
    """The metrics that there are, each with its labels."""
    found: list[Metric] = list(families([reading()]))
    assert all(family.samples for family in found)
    return {sample.name: set(sample.labels) for family in found for sample in family.samples}


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_exist() -> None:
    known = exposed()
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

    assert len(queries) == 21
    for query in queries:
        (metric,) = re.findall(r"\bflowq_\w+", query)
        assert metric in known, query
        grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
        selected = set(re.findall(r"(\w+)=~", query))
        assert grouped | selected <= known[metric], query


def test_every_metric_but_the_version_is_on_the_dashboard() -> None:
    text = json.dumps(DASHBOARD["panels"])

    assert [name for name in exposed() if name not in text] == ["flowq_build_info"]


def test_every_counter_is_shown_as_a_rate_and_no_gauge_is() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            is_counter = re.search(r"flowq_\w+_total", target["expr"]) is not None
            assert is_counter == ("rate(" in target["expr"]), target["expr"]


def test_the_panels_of_the_dashboard_lie_side_by_side_and_have_names_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
