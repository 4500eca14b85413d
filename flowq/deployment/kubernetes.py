"""Kubernetes manifests: a Deployment and a KEDA ScaledObject per stage, a Job per source, an exporter to scale by."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

from flowq.deployment.parts import (
    CLAIM_FOLDER,
    GRACE_MARGIN_SECONDS,
    GRACE_SECONDS,
    METRICS_PORT,
    claim_bucket,
    dns_name,
    messages_per_replica,
    quoted,
    source_command,
    stage_command,
    words,
)
from flowq.graph.compilation.plan import Plan, StagePlan

SECRET = "flowq-redis"


def kubernetes(plan: Plan, *, image: str, namespace: str, replicas: int, claim_store: str | None = None) -> str:
    """All manifests of a pipeline as one YAML text. `replicas`: the most of each stage.

    `claim_store`: the setting; a bucket needs no volume.
    """
    claims = _claims(plan, claim_bucket(claim_store))
    parts = [_HEAD.substitute(pipeline=plan.name, namespace=namespace, secret=SECRET)]
    for stage in plan.consumers:
        parts += (_deployment(plan, stage, image, claims), _scaled_object(plan, stage, namespace, replicas))
    parts += [_job(plan, source, image, claims) for source in plan.sources]
    parts.append(_exporter(plan, image, claims))
    if claims["claim_volume"]:
        parts.append(_CLAIM_VOLUME.substitute(_common(plan, "claims", image, claims)))
    return "---\n".join(parts)


def _deployment(plan: Plan, stage: StagePlan, image: str, claims: Mapping[str, str]) -> str:
    command = stage_command(plan.name, stage, "--forever", "--metrics", f"0.0.0.0:{METRICS_PORT}")
    return _DEPLOYMENT.substitute(
        _common(plan, stage.name, image, claims), args=words(command), stop_seconds=GRACE_SECONDS + GRACE_MARGIN_SECONDS
    )


def _scaled_object(plan: Plan, stage: StagePlan, namespace: str, replicas: int) -> str:
    exporter = f"http://{dns_name(plan.name, 'exporter')}.{namespace}.svc:{METRICS_PORT}/metrics"
    where = f'flowq_ready_messages{{pipeline="{plan.name}",stage="{stage.name}"}}'
    return _SCALED_OBJECT.substitute(
        name=dns_name(plan.name, stage.name),
        url=quoted(exporter),
        location=f"'{where}'",
        target=quoted(str(messages_per_replica(stage))),
        replicas=replicas,
    )


def _job(plan: Plan, source: StagePlan, image: str, claims: Mapping[str, str]) -> str:
    command = source_command(plan.name, source)
    return _JOB.substitute(_common(plan, source.name, image, claims), args=words(command))


def _exporter(plan: Plan, image: str, claims: Mapping[str, str]) -> str:
    command = ["exporter", plan.name, "--listen", f"0.0.0.0:{METRICS_PORT}"]
    return _EXPORTER.substitute(_common(plan, "exporter", image, claims), args=words(command))


def _common(plan: Plan, component: str, image: str, claims: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": dns_name(plan.name, component),
        "instance": dns_name(plan.name),
        "component": dns_name(component),
        "image": quoted(image),
        "port": METRICS_PORT,
        "secret": SECRET,
        **claims,
    }


def _claims(plan: Plan, bucket: str) -> dict[str, str]:
    """The store of large bodies, for a pod, its container and its environment."""
    none = {"claim_variable": "", "claim_mount": "", "claim_volume": ""}
    if not plan.claiming:
        return none
    if bucket:
        return none | {"claim_variable": _CLAIM_BUCKET.substitute(url=quoted(bucket))}
    volume = _CLAIM_OF_POD.substitute(name=dns_name(plan.name, "claims"))
    return {"claim_variable": _CLAIM_VARIABLE, "claim_mount": _CLAIM_MOUNT, "claim_volume": volume}


_HEAD = Template("""\
# The pipeline "$pipeline": a Deployment per stage, scaled by KEDA on the messages that are ready, a Job per source, and
# an exporter. Scrape the exporter alone: each pod serves the numbers of the whole pipeline beside its own health.
#
# Before:  kubectl create secret generic $secret --namespace $namespace --from-literal=url=redis://HOST:6379/0
# Then:    kubectl apply --namespace $namespace -f FILE
""")

_POD = """\
        app.kubernetes.io/name: flowq
        app.kubernetes.io/instance: $instance
        app.kubernetes.io/component: $component
    spec:
"""

_SAFE = """\
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile:
          type: RuntimeDefault
$claim_volume"""

_CONTAINER = """\
      containers:
        - name: flowq
          image: $image
          args: $args
          env:
            - name: FLOWQ_REDIS_URL
              valueFrom:
                secretKeyRef:
                  name: $secret
                  key: url
$claim_variable          securityContext:
            allowPrivilegeEscalation: false
            capabilities:
              drop: [ALL]
          resources:
            requests:
              cpu: 100m
              memory: 128Mi
            limits:
              memory: 512Mi
$claim_mount"""

_LABELS = """\
  labels:
    app.kubernetes.io/name: flowq
    app.kubernetes.io/instance: $instance
    app.kubernetes.io/component: $component
"""

_SELECTOR = """\
  selector:
    matchLabels:
      app.kubernetes.io/name: flowq
      app.kubernetes.io/instance: $instance
      app.kubernetes.io/component: $component
  template:
    metadata:
      labels:
"""

_PROBES = """\
          ports:
            - name: metrics
              containerPort: $port
          readinessProbe:
            httpGet:
              path: /readyz
              port: metrics
            periodSeconds: 10
            timeoutSeconds: 6
          livenessProbe:
            httpGet:
              path: /healthz
              port: metrics
            initialDelaySeconds: 15
            periodSeconds: 20
            timeoutSeconds: 6
            failureThreshold: 3
"""

_DEPLOYMENT = Template(
    """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $name
"""
    + _LABELS
    + "spec:\n"
    + _SELECTOR
    + _POD
    + "      terminationGracePeriodSeconds: $stop_seconds\n"
    + _SAFE
    + _CONTAINER
    + _PROBES
)

_SCALED_OBJECT = Template("""\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: $name
spec:
  scaleTargetRef:
    name: $name
  minReplicaCount: 1 # 0 saves a pod, but then nobody takes over what a killed one was at until something is ready
  maxReplicaCount: $replicas
  cooldownPeriod: 300
  triggers:
    - type: metrics-api
      metadata:
        url: $url
        format: prometheus
        valueLocation: $location
        targetValue: $target
""")

_JOB = Template(
    """\
apiVersion: batch/v1
kind: Job
metadata:
  name: $name
"""
    + _LABELS
    + """\
spec:
  backoffLimit: 6
  podFailurePolicy:
    rules:
      - action: FailJob # wrong usage, or done with dead letters: once more would help nobody
        onExitCodes:
          containerName: flowq
          operator: In
          values: [2, 3]
  template:
    metadata:
      labels:
"""
    + _POD
    + "      restartPolicy: Never\n"
    + _SAFE
    + _CONTAINER
)

_EXPORTER = Template(
    """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $name
"""
    + _LABELS
    + "spec:\n  replicas: 1\n"
    + _SELECTOR
    + _POD
    + _SAFE
    + _CONTAINER
    + _PROBES
    + """\
---
apiVersion: v1
kind: Service
metadata:
  name: $name
"""
    + _LABELS
    + """\
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "$port"
spec:
  selector:
    app.kubernetes.io/name: flowq
    app.kubernetes.io/instance: $instance
    app.kubernetes.io/component: $component
  ports:
    - name: metrics
      port: $port
      targetPort: metrics
"""
)

_CLAIM_VARIABLE = f"""\
            - name: FLOWQ_CLAIM_STORE
              value: {CLAIM_FOLDER}
"""

_CLAIM_BUCKET = Template("""\
            - name: FLOWQ_CLAIM_STORE
              value: $url
          envFrom:
            - secretRef:
                name: flowq-claims # variables with credentials, such as AWS_ACCESS_KEY_ID
                optional: true # without it, the identity of the pod counts
""")

_CLAIM_MOUNT = f"""\
          volumeMounts:
            - name: claims
              mountPath: {CLAIM_FOLDER}
"""

_CLAIM_OF_POD = Template("""\
      volumes:
        - name: claims
          persistentVolumeClaim:
            claimName: $name
""")

_CLAIM_VOLUME = Template(
    """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: $name
"""
    + _LABELS
    + """\
spec:
  accessModes: [ReadWriteMany] # every pod reads what any other has written
  resources:
    requests:
      storage: 10Gi
"""
)
