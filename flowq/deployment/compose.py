"""A compose file: Redis, a service per stage and source, and an exporter."""

from __future__ import annotations

from string import Template

from flowq.deployment.parts import (
    CLAIM_FOLDER,
    GRACE_MARGIN_SECONDS,
    GRACE_SECONDS,
    METRICS_PORT,
    claim_bucket,
    dns_name,
    quoted,
    source_command,
    stage_command,
    words,
)
from flowq.graph.compilation.plan import Plan


def compose(plan: Plan, *, image: str, claim_store: str | None = None) -> str:
    """The compose file of a pipeline as YAML text. `claim_store`: the setting; a bucket needs no volume."""
    bucket = claim_bucket(claim_store)
    on_volume = bool(plan.claiming) and not bucket
    claims = _CLAIMS if on_volume else _CLAIM_BUCKET.substitute(url=quoted(bucket)) if plan.claiming else ""
    parts = [_HEAD.substitute(pipeline=plan.name, name=dns_name(plan.name), image=image, claims=claims)]
    for stage in plan.consumers:
        command = stage_command(plan.name, stage, "--forever")
        stop_seconds = GRACE_SECONDS + GRACE_MARGIN_SECONDS
        parts.append(
            _STAGE.substitute(
                name=dns_name(stage.name), command=words(command), pipeline=plan.name, stop_seconds=stop_seconds
            )
        )
    parts += [
        _SOURCE.substitute(name=dns_name(source.name), command=words(source_command(plan.name, source)))
        for source in plan.sources
    ]
    command = ["exporter", plan.name, "--listen", f"0.0.0.0:{METRICS_PORT}"]
    volumes = "  redis:\n" + ("  claims:\n" if on_volume else "")
    parts.append(_EXPORTER.substitute(command=words(command), port=METRICS_PORT, volumes=volumes))
    return "\n".join(parts)


_HEAD = Template("""\
# The pipeline "$pipeline": Redis, a service per stage and source, and an exporter for Prometheus.
#
#   docker compose up --build --detach
#   docker compose up --detach --scale STAGE=4
#   docker compose run --rm SOURCE             a source once more
name: $name

x-flowq: &flowq
  image: $image
  build: .
  init: true
  environment:
    FLOWQ_REDIS_URL: redis://redis:6379/0
$claims  depends_on:
    redis:
      condition: service_healthy
  security_opt: ["no-new-privileges:true"]
  cap_drop: [ALL]

services:
  redis:
    image: redis:8-alpine
    command: ["redis-server", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    volumes: ["redis:/data"]
    restart: unless-stopped
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 5s
      timeout: 3s
      retries: 10
""")

_CLAIMS = f"""\
    FLOWQ_CLAIM_STORE: {CLAIM_FOLDER}
  volumes: ["claims:{CLAIM_FOLDER}"]
"""

_CLAIM_BUCKET = Template("""\
    FLOWQ_CLAIM_STORE: $url
  env_file: # variables with credentials, such as AWS_ACCESS_KEY_ID
    - path: claims.env
      required: false
""")

_STAGE = Template("""\
  $name:
    <<: *flowq
    command: $command
    restart: unless-stopped
    stop_grace_period: ${stop_seconds}s
    healthcheck:
      test: ["CMD", "flowq", "healthcheck", "$pipeline"]
      interval: 30s
      timeout: 10s
      start_period: 30s
""")

_SOURCE = Template("""\
  $name:
    <<: *flowq
    command: $command
    restart: "no"
    healthcheck:
      disable: true
""")

_EXPORTER = Template("""\
  exporter:
    <<: *flowq
    command: $command
    restart: unless-stopped
    ports: ["127.0.0.1:$port:$port"]
    healthcheck:
      disable: true

volumes:
$volumes""")
