"""Kubernetes manifests of a plan: a Deployment and a KEDA ScaledObject per stage, a Job per source.

The exporter that KEDA reads does not depend on the plan: it is in examples/deploy/exporter.yaml.
"""

from __future__ import annotations

from string import Template

from flowq.deployment.parts import (
    CLAIM_FOLDER,
    GRACE_MARGIN_SECONDS,
    GRACE_SECONDS,
    claim_bucket,
    dns_name,
    quoted,
    source_command,
    stage_command,
)
from flowq.graph.compilation.plan import Plan, StagePlan

_METRICS_PORT = 9100
_ROUNDS_PER_REPLICA = 10


def kubernetes(plan: Plan, *, image: str, namespace: str, replicas: int, claim_store: str | None = None) -> str:
    """All manifests of a pipeline as one YAML text. `replicas`: the maximum for each stage.

    `claim_store`: the setting; a bucket needs no volume.
    """
    claims = dns_name(plan.name, "claims")
    bucket = claim_bucket(claim_store)
    on_volume = bool(plan.claiming) and not bucket
    for_all = {
        "image": quoted(image),
        "port": _METRICS_PORT,
        "stop_seconds": GRACE_SECONDS + GRACE_MARGIN_SECONDS,
        "claim_variable": (_CLAIM_BUCKET if bucket else _CLAIM_VARIABLE).substitute(url=quoted(bucket))
        if plan.claiming
        else "",
        "claim_mount": _CLAIM_MOUNT if on_volume else "",
        "claim_volume": _CLAIM_OF_POD.substitute(name=claims) if on_volume else "",
    }

    def manifest(template: Template, component: str, **values: object) -> str:
        labels = {"name": "flowq", "instance": dns_name(plan.name), "component": dns_name(component)}
        in_a_row = ", ".join(f"app.kubernetes.io/{key}: {value}" for key, value in labels.items())
        name = dns_name(plan.name, component)
        return template.substitute(for_all, name=name, labels=f"{{{in_a_row}}}", **values)

    parts = [_HEAD.substitute(pipeline=plan.name, namespace=namespace)]
    for stage in plan.consumers:
        command = stage_command(plan.name, stage, "--forever", "--metrics", f"0.0.0.0:{_METRICS_PORT}")
        location = f'flowq_ready_messages{{pipeline="{plan.name}",stage="{stage.name}"}}'
        parts += (
            manifest(_DEPLOYMENT, stage.name, args=quoted(command)),
            manifest(
                _SCALED_OBJECT,
                stage.name,
                url=quoted(f"http://flowq-exporter.{namespace}.svc:{_METRICS_PORT}/metrics"),
                location=f"'{location}'",
                target=quoted(str(_messages_per_replica(stage))),
                replicas=replicas,
            ),
        )
    parts += [manifest(_JOB, source.name, args=quoted(source_command(plan.name, source))) for source in plan.sources]
    if on_volume:
        parts.append(manifest(_CLAIM_VOLUME, "claims"))
    return "---\n".join(parts)


def _messages_per_replica(stage: StagePlan) -> int:
    """How many ready messages justify another replica: ten for each handler that a replica runs at once."""
    return stage.concurrency * (stage.batch.size if stage.batch else 1) * _ROUNDS_PER_REPLICA


_HEAD = Template("""\
# The pipeline "$pipeline": a Deployment per stage, scaled by KEDA on the messages that are ready, and a Job per source.
# KEDA reads the exporter in examples/deploy/exporter.yaml. Let Prometheus scrape the exporter alone: each pod serves
# the metrics of the whole pipeline beside its own health.
#
# Before:  kubectl create secret generic flowq-redis --namespace $namespace --from-literal=url=redis://HOST:6379/0
#          kubectl apply --namespace $namespace -f exporter.yaml
# Then:    kubectl apply --namespace $namespace -f FILE
""")

_POD = """\
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile:
          type: RuntimeDefault
$claim_volume      containers:
        - name: flowq
          image: $image
          args: $args
          env:
            - name: FLOWQ_REDIS_URL
              valueFrom:
                secretKeyRef:
                  name: flowq-redis
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

_DEPLOYMENT = Template(f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $name
  labels: $labels
spec:
  selector:
    matchLabels: $labels
  template:
    metadata:
      labels: $labels
    spec:
      terminationGracePeriodSeconds: $stop_seconds
{_POD}\
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
""")

_SCALED_OBJECT = Template("""\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: $name
spec:
  scaleTargetRef:
    name: $name
  minReplicaCount: 1 # with 0, the messages of a killed pod would wait until others are ready
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

_JOB = Template(f"""\
apiVersion: batch/v1
kind: Job
metadata:
  name: $name
  labels: $labels
spec:
  backoffLimit: 6
  podFailurePolicy:
    rules:
      - action: FailJob # wrong usage, or done with dead letters: a restart would not help
        onExitCodes:
          containerName: flowq
          operator: In
          values: [2, 3]
  template:
    metadata:
      labels: $labels
    spec:
      restartPolicy: Never
{_POD}""")

_CLAIM_VARIABLE = Template(f"""\
            - name: FLOWQ_CLAIM_STORE
              value: {CLAIM_FOLDER}
""")

_CLAIM_BUCKET = Template("""\
            - name: FLOWQ_CLAIM_STORE
              value: $url
          envFrom:
            - secretRef:
                name: flowq-claims # variables with credentials, such as AWS_ACCESS_KEY_ID
                optional: true # without it, the identity of the pod is used
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

_CLAIM_VOLUME = Template("""\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: $name
  labels: $labels
spec:
  accessModes: [ReadWriteMany] # each pod reads what the others have written
  resources:
    requests:
      storage: 10Gi
""")
