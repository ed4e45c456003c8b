"""What the profile `observability` shows of a deployment, read as its dashboards read it."""

import json
import os
import re
import time
import urllib.parse

from trial.engine import Failed, say

# What a container of each service says of itself, and the command.
TELLERS = {"berth", *(f"berth-{name}" for name in ("content", "metadata", "fetcher", "unpacker", "transfer", "gateway"))}


def ask(deployment, path):
    """Prometheus, in its container."""
    container = deployment.containers("prometheus")[0]
    said = json.loads(deployment.engine.docker("exec", container, "wget", "-q", "-O", "-", f"http://127.0.0.1:9090{path}"))
    if said.get("status") != "success":
        raise Failed(f"Prometheus at {path}: {said}")
    return said["data"]


def is_watched(deployment, limit=90):
    """Prometheus reaches each container of each service, and each service told the collector of the pull."""
    services = ("content", "metadata", "fetcher", "unpacker", "transfer", "gc", "gateway")
    wanted = sum(len(deployment.containers(name)) for name in services)
    until = time.monotonic() + limit
    while True:
        targets = [one for one in ask(deployment, "/api/v1/targets")["activeTargets"] if one["labels"]["job"] == "berth"]
        well = {one["labels"]["instance"] for one in targets if one["health"] == "up"}
        told = tellers(deployment)
        if len(well) == wanted and TELLERS <= told:
            break
        if time.monotonic() > until:
            raise Failed(f"Prometheus reaches {sorted(well)}, {wanted} containers are there; traces came from {sorted(told)}")
        time.sleep(0.5)
    say(f"Prometheus reaches all {wanted} containers, and traces come from {', '.join(sorted(told))}")


def tellers(deployment):
    """The services whose spans the collector has seen."""
    return set(re.findall(r"service\.name: Str\(([^)]*)\)", deployment.engine.docker("logs", deployment.containers("collector")[0])))


def shows_everything(deployment, source, limit=60):
    """Every panel of every dashboard that Prometheus fills has something to show, also of a container that is quite new."""
    empty = list(queries(f"{source}/deploy/observability/dashboards"))
    asked, until = len(empty), time.monotonic() + limit
    while empty:
        empty = [one for one in empty if not answered(deployment, one[1])]
        if empty and time.monotonic() > until:
            raise Failed("these panels are empty:\n" + "\n".join(f"{panel}: {query}" for panel, query in empty))
    say(f"each of the {asked} queries of the dashboards has an answer")


def queries(folder):
    """What the dashboards ask Prometheus, each with its panel."""
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        for panel in panels:
            for target in panel.get("targets", []):
                if "expr" in target:
                    query = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "30m").replace("$instance", ".*")
                    yield f"{name}, {panel['title']}", query


def answered(deployment, query):
    """Whether there is an answer, and it is a number."""
    found = ask(deployment, f"/api/v1/query?query={urllib.parse.quote(query)}")["result"]
    return any(one["value"][1] != "NaN" for one in found)
