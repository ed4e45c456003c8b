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
        self.environment = dict(engine.environment, TRIAL=work, BERTH_PRIVATE=f"{work}/private")
        # Debian's compose, which is a program of its own; otherwise docker's.
        self.program = ["docker-compose"]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.show_logs()
        self.compose("down", "-v", "--remove-orphans", "-t", "5")

    def compose(self, *words, **options):
        files = [word for file in self.files for word in ("-f", file)]
        return run([*self.program, "-p", PROJECT, *files, *words], env=self.environment, **options)

    def up(self, *words):
        self.compose("up", "-d", "--no-build", *words)

    def containers(self, service):
        return self.compose("ps", "-q", service).split()

    def wait_healthy(self, limit=90):
        """Until every container says that it is well."""
        until = time.monotonic() + limit
        while True:
            ill = []
            for container in self.containers_of_all():
                found = json.loads(self.engine.docker("inspect", container))[0]
                state = found["State"]
                health = state.get("Health", {}).get("Status", "healthy")
                if not state["Running"] or state["Paused"] or health != "healthy":
                    ill.append(f"{found['Name']}: {state['Status']}, {health}")
            if not ill:
                return
            if time.monotonic() > until:
                raise Failed("after %d s not all are well: %s" % (limit, "; ".join(ill)))
            time.sleep(0.25)

    def containers_of_all(self):
        return [container for service in SERVICES for container in self.containers(service)]

    def berth(self, *words, service="gateway", **options):
        """A command of berth, in a container of a service."""
        return self.compose("exec", "-T", service, "berth", *words, **options)

    def events(self):
        return [json.loads(line) for line in self.berth("events", "--since", "0", "--until-now").splitlines()]

    def show_logs(self):
        try:
            logs = self.compose("logs", "--no-color", "--tail", "60")
            say(f"the last words of every service:\n{logs[-20000:]}")
        except Failed as failed:
            say(f"the logs cannot be shown: {failed}")

    def root_of(self, container):
        """The container's file system, as root of this machine sees it."""
        pid = int(self.engine.docker("inspect", "-f", "{{.State.Pid}}", container))
        root = f"/proc/{pid}/root"
        if not os.path.isdir(root):
            raise Failed(f"the container {container} does not run")
        return root
