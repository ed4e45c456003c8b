"""The deployment of compose.yaml in an engine, and what people do with it."""

import json
import os
import time

from trial.engine import Failed, run, say

PROJECT = "berth"
SERVICES = ["nats", "content", "metadata", "fetcher", "unpacker", "transfer", "gc", "gateway"]


class Deployment:
    """Everything by docker-compose; use it in a `with`."""

    def __init__(self, engine, source, work, overrides):
        self.engine = engine
        self.files = [f"{source}/deploy/compose.yaml", *overrides]
        self.environment = dict(engine.environment, TRIAL=work, COMPOSE_PROFILES="observability", BERTH_PRIVATE=f"{work}/private",
                                BERTH_HEALTH_INTERVAL="1s", BERTH_LOG=os.environ.get("BERTH_LOG", "info,berth_fetcher=debug"))
        self._looker = None
        self.program = self._compose()

    def _compose(self):
        """Docker's compose, a plugin, where there is one; Debian 12 has a program of its own, which is older."""
        if os.environ.get("BERTH_COMPOSE"):
            return [os.environ["BERTH_COMPOSE"]]
        try:
            self.engine.docker("compose", "version")
            return [self.engine.client, "compose"]
        except Failed:
            return ["docker-compose"]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.show_logs()
        try:
            self.compose("down", "-v", "--remove-orphans", "-t", "5")
        except Failed as failed:
            # The engine goes anyway, with all it has; what went wrong before must be heard.
            if not kind:
                raise
            say(f"it could not be taken down: {failed}")

    def compose(self, *words, **options):
        files = [word for file in self.files for word in ("-f", file)]
        return run([*self.program, "-p", PROJECT, *files, *words], env=self.environment, **options)

    @property
    def project(self):
        return PROJECT

    def replace(self, service):
        """Each container of a service goes in order, and a new one comes."""
        for old in self.containers(service):
            self.engine.docker("stop", "-t", "20", old)
            self.engine.docker("rm", old)
            self.compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "-t", "20", service)

    def up(self, *words):
        self.compose("up", "-d", "--no-build", *words)

    def containers(self, service=None):
        """By compose's labels: asking the engine takes a tenth of the time that compose takes."""
        labels = [f"label=com.docker.compose.project={PROJECT}"]
        if service:
            labels.append(f"label=com.docker.compose.service={service}")
        return self.engine.docker("ps", "-aq", *[word for label in labels for word in ("--filter", label)]).split()

    def wait_healthy(self, limit=90):
        """Until every container says that it is well."""
        until = time.monotonic() + limit
        while True:
            ill = []
            for found in json.loads(self.engine.docker("inspect", *self.containers())):
                state = found["State"]
                health = state.get("Health", {}).get("Status", "healthy")
                if not state["Running"] or state["Paused"] or health != "healthy":
                    ill.append(f"{found['Name']}: {state['Status']}, {health}")
            if not ill:
                return
            if time.monotonic() > until:
                raise Failed("after %d s not all are well: %s" % (limit, "; ".join(ill)))
            time.sleep(0.25)

    def berth(self, *words, service="gateway", **options):
        """A command of berth, in a container of a service."""
        return self.compose("exec", "-T", service, "berth", *words, **options)

    def looker(self):
        if not self._looker:
            self._looker = self.containers("looker")[0]
        return self._looker

    def look(self, *words, **options):
        """A command of berth through the gateway's socket, from a container that nothing happens to."""
        return self.engine.docker("exec", self.looker(), "berth", *words, **options)

    def events(self):
        return [json.loads(line) for line in self.look("events", "--since", "0", "--until-now").splitlines()]

    def streams(self):
        """What the NATS server says of its streams."""
        said = self.engine.docker("exec", self.containers("nats")[0], "wget", "-q", "-O", "-",
                                  "http://127.0.0.1:8222/jsz?accounts=true&streams=true")
        accounts = json.loads(said).get("account_details", [])
        return {stream["name"]: stream["state"] for account in accounts for stream in account.get("stream_detail") or []}

    def show_logs(self):
        """What every service said: the end of it here, all of it in a file."""
        path = f"{self.environment['TRIAL']}/services.log"
        try:
            logs = self.compose("logs", "--no-color", "--timestamps")
            with open(path, "w", encoding="utf-8") as file:
                file.write(logs)
            ends = [line for service in SERVICES for line in [l for l in logs.splitlines() if l.startswith((f"{service}_", f"{service}-"))][-12:]]
            say(f"the last words of every service ({path} has all):\n" + "\n".join(line[:300] for line in ends))
        except (Failed, OSError) as failed:
            say(f"the logs cannot be shown: {failed}")

    def pid_of(self, container):
        return int(self.engine.docker("inspect", "-f", "{{.State.Pid}}", container))

    def root_of(self, container):
        """The container's file system, as root of this machine sees it."""
        root = f"/proc/{self.pid_of(container)}/root"
        if not os.path.isdir(root):
            raise Failed(f"the container {container} does not run")
        return root
