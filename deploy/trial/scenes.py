"""What is played on a deployment, and what must be true after each scene."""

import json
import os
import time

from trial import tree
from trial.engine import Failed, say


def first_pull(deployment, shelf, reference):
    """Up, one pull, and what can be seen of it."""
    begun = time.monotonic()
    deployment.up()
    deployment.wait_healthy()
    say(f"all services are well after {time.monotonic() - begun:.0f} s")
    say(f"berth pull {reference}")
    print(deployment.berth("pull", "--plain-http", reference), end="")
    print(deployment.berth("images", "ls"), end="")
    events = deployment.events()
    for event in events:
        print(json.dumps(event))
    check_events(events)
    compare(deployment, shelf, reference)
    check_store(deployment)


def compare(deployment, shelf, reference):
    """Mounts an image where it was unpacked and compares every file with another program's idea of it."""
    container = deployment.containers("looker")[0]
    target = "/tmp/look"
    os.makedirs(f"{deployment.root_of(container)}{target}", exist_ok=True)
    in_container = lambda *words: deployment.engine.docker("exec", container, "berth", *words)
    in_container("images", "mount", reference, target)
    try:
        found = tree.read(f"{deployment.root_of(container)}{target}")
    finally:
        in_container("images", "unmount", target)
    wrong = tree.differences(tree.read(shelf.tree(reference)), found)
    if wrong:
        raise Failed(f"{reference} is not what it should be:\n" + "\n".join(wrong))
    say(f"{reference}: {len(found)} files, each as it should be")


def check_events(events):
    """Numbers without a gap, none twice."""
    numbers = [event["sequence"] for event in events]
    if numbers != list(range(1, len(numbers) + 1)):
        raise Failed(f"events have gaps or doubles: {numbers}")


def check_store(deployment):
    """All bytes are what they should be, and nothing is there that nobody needs."""
    deployment.berth("content", "fsck", "--deep")


def chaos(deployment, shelf, references, rounds):
    raise Failed("not there yet")
