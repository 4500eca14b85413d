"""A compose file of a plan: a service per stage and source.

Redis and the exporter do not depend on the plan: they are in examples/deploy/compose.yaml.
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
from flowq.graph.compilation.plan import Plan


def compose(plan: Plan, *, image: str, claim_store: str | None = None) -> str:
    """The services of a pipeline as YAML text. `claim_store`: the setting; a bucket needs no volume."""
    bucket = claim_bucket(claim_store)
    on_volume = bool(plan.claiming) and not bucket
    claims = _CLAIM_VOLUME if on_volume else _CLAIM_BUCKET.substitute(url=quoted(bucket)) if plan.claiming else ""
    parts = [_HEAD.substitute(pipeline=plan.name, name=dns_name(plan.name), image=image, claims=claims)]
    stop_seconds = GRACE_SECONDS + GRACE_MARGIN_SECONDS
    for stage in plan.consumers:
        command = quoted(stage_command(plan.name, stage, "--forever"))
        parts.append(
            _STAGE.substitute(name=dns_name(stage.name), command=command, pipeline=plan.name, stop_seconds=stop_seconds)
        )
    parts += [
        _SOURCE.substitute(name=dns_name(source.name), command=quoted(source_command(plan.name, source)))
        for source in plan.sources
    ]
    return "\n".join(parts) + ("\nvolumes:\n  claims:\n" if on_volume else "")


_HEAD = Template("""\
# The stages and sources of the pipeline "$pipeline". Redis and an exporter are in examples/deploy/compose.yaml; beside
# it, `docker compose up` reads this file too, if it is called compose.override.yaml.
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
""")

_CLAIM_VOLUME = f"""\
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
