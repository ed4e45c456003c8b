"""Everything that can happen to a service happens to each, one after the other, while images are pulled and removed."""

import itertools
import os
import signal
import threading
import time

from trial import scenes
from trial.deployment import SERVICES
from trial.engine import Failed, TooLate, say

# How long a service is away: long enough to be missed, and for its jobs to be taken up by others.
AWAY_SECONDS = 4
# A pull that meets several accidents; alone it takes one or two seconds.
PULL_SECONDS = 180


class Puller(threading.Thread):
    """Pulls images and removes them again, until it is told to stop. No pull may fail."""

    def __init__(self, deployment, references):
        super().__init__(daemon=True)
        self.deployment, self.references = deployment, references
        self.stopping = threading.Event()
        self.done, self.slowest, self.failed = 0, 0.0, None

    def run(self):
        try:
            for reference in itertools.cycle(self.references):
                begun = time.monotonic()
                self.deployment.look("pull", "--plain-http", reference, timeout=PULL_SECONDS)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.done += 1
                if self.stopping.is_set():
                    return
                self.remove(reference)
        except Failed as failed:
            self.failed = failed

    def remove(self, reference):
        """Removing is no pull: it may be refused while a service is away, and is tried again. The collection after it is
        not waited for without limit: when the collector died in the middle of one, the next begins two minutes later."""
        until = time.monotonic() + PULL_SECONDS
        while True:
            try:
                self.deployment.look("images", "rm", "--sync", reference, timeout=10)
                return
            except Failed as failed:
                if isinstance(failed, TooLate) or "not found" in str(failed):
                    return
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


def kill(deployment, service):
    """SIGKILL, from outside: as the kernel does when memory is short. Docker starts it again."""
    for container in deployment.containers(service)[:1]:
        os.kill(deployment.pid_of(container), signal.SIGKILL)


def pause(deployment, service):
    """It hangs: its connections stand, and it answers nothing."""
    container = deployment.containers(service)[0]
    deployment.engine.docker("pause", container)
    time.sleep(AWAY_SECONDS)
    deployment.engine.docker("unpause", container)


def cut(deployment, service):
    """Its network is gone, and comes back."""
    container = deployment.containers(service)[0]
    network = f"{deployment.project}_bus"
    deployment.engine.docker("network", "disconnect", "-f", network, container)
    time.sleep(AWAY_SECONDS)
    deployment.engine.docker("network", "connect", "--alias", service, network, container)


def roll(deployment, service):
    """It is replaced by a new container, as an upgrade does; its replicas one after the other."""
    deployment.replace(service)


FATES = [kill, pause, cut, roll]
# For those who have little time: a lost network looks the same to every service but for those who keep connections open.
QUICKLY = {cut: ["nats", "metadata", "fetcher"]}


def play(deployment, shelf, references, rounds):
    """All fates of all services; then everything must be as if nothing had happened."""
    half = len(references) // 2
    pullers = [Puller(deployment, references[:half]), Puller(deployment, references[half:])]
    for puller in pullers:
        puller.start()
    begun = time.monotonic()
    for _ in range(max(rounds, 1)):
        for fate in FATES:
            for service in SERVICES if rounds else QUICKLY.get(fate, SERVICES):
                before = [puller.done for puller in pullers]
                fate(deployment, service)
                deployment.wait_healthy()
                wait_for_progress(pullers, before, f"{fate.__name__} {service}")
                say(f"{fate.__name__} {service}: at {time.monotonic() - begun:.0f} s, {sum(p.done for p in pullers)} pulls done")
    for puller in pullers:
        puller.stopping.set()
    for puller in pullers:
        puller.join(PULL_SECONDS)
        if puller.failed or puller.is_alive():
            raise Failed(f"a pull failed: {puller.failed or 'it does not end'}")
    say(f"{sum(puller.done for puller in pullers)} pulls, none failed; the slowest took {max(p.slowest for p in pullers):.0f} s")
    for reference in references:
        deployment.look("pull", "--plain-http", reference)
        scenes.compare(deployment, shelf, reference)
    deployment.look("content", "fsck", "--deep")
    events = scenes.check_events(deployment)
    say(f"{len(events)} events, without a gap, each once")


def wait_for_progress(pullers, before, after):
    """Until a pull ended that was begun before or during the accident."""
    until = time.monotonic() + PULL_SECONDS
    while True:
        for puller in pullers:
            if puller.failed:
                raise Failed(f"after {after}, a pull failed: {puller.failed}")
        if any(puller.done > done for puller, done in zip(pullers, before)):
            return
        if time.monotonic() > until:
            raise Failed(f"after {after}, no pull ended within {PULL_SECONDS} s")
        time.sleep(0.1)
