"""What is played on a deployment, and what must be true after each scene."""

import json
import os
import time

from trial import processors, tree
from trial.engine import Failed, say

TARGET = "/tmp/look"


def first_pull(deployment, shelf, reference):
    """Up, one pull, and what can be seen of it."""
    begun = time.monotonic()
    deployment.up()
    deployment.wait_healthy()
    say(f"all services are well after {time.monotonic() - begun:.0f} s")
    say(f"berth pull {reference}")
    # The command that README.md names, in the gateway's own container.
    print(deployment.berth("pull", "--plain-http", reference), end="")
    print(deployment.berth("images", "ls"), end="")
    for event in check_events(deployment):
        print(json.dumps(event))
    compare(deployment, shelf, reference)
    for unpacker in deployment.containers("unpacker"):
        with open(f"/proc/{deployment.pid_of(unpacker)}/status", encoding="utf-8") as status:
            processors.are_shared("the unpacker", status.read())
    deployment.look("content", "fsck", "--deep")


def through_a_mirror(deployment, reference):
    """What was pulled once through the cache can be pulled when the registry is down."""
    cached = reference.replace(reference.split("/")[0], "mirror:5000")
    deployment.look("images", "rm", "--sync", reference)
    deployment.look("pull", "--plain-http", cached)
    deployment.look("images", "rm", "--sync", cached)
    if deployment.look("content", "ls", "-q").split():
        raise Failed("blobs stay after the only image was removed")
    registry = deployment.containers("registry")[0]
    deployment.engine.docker("stop", "-t", "2", registry)
    try:
        deployment.look("pull", "--plain-http", cached)
    finally:
        deployment.engine.docker("start", registry)
    say(f"{cached} came from the mirror, without the registry")


def compare(deployment, shelf, reference):
    """Mounts an image where it was unpacked and compares every file with another program's idea of it."""
    deployment.look("images", "mount", reference, TARGET)
    try:
        found = tree.read(f"{deployment.root_of(deployment.looker())}{TARGET}")
    finally:
        deployment.look("images", "unmount", TARGET)
    wrong = tree.differences(tree.read(shelf.tree(reference)), found)
    if wrong:
        raise Failed(f"{reference} is not what it should be:\n" + "\n".join(wrong))
    say(f"{reference}: {len(found)} files, each as it should be")


def check_events(deployment, limit=30):
    """Numbers without a gap, none twice; and NATS has each of them once."""
    events = deployment.events()
    numbers = [event["sequence"] for event in events]
    if numbers != list(range(1, len(numbers) + 1)):
        raise Failed(f"events have gaps or doubles: {numbers}")
    until = time.monotonic() + limit
    while True:
        stream = deployment.streams().get("BERTH_EVENTS", {})
        if stream.get("messages") == stream.get("last_seq") == len(events):
            return events
        if time.monotonic() > until or stream.get("last_seq", 0) > len(events):
            raise Failed(f"there are {len(events)} events, and NATS has {stream}")
        time.sleep(0.2)


def nothing_is_left(deployment, limit=180):
    """Without its images, nothing is kept: no blob, no snapshot, no lease, no job; on the disk neither."""
    names = deployment.look("images", "ls", "-q").split()
    if names:
        deployment.look("images", "rm", *names)
    until = time.monotonic() + limit
    while True:
        left = {}
        try:
            deployment.look("gc", timeout=150)
        except Failed as failed:
            left["collection"] = str(failed)
        for what in (["images", "ls"], ["content", "ls"], ["content", "active"], ["snapshots", "ls"], ["leases", "ls"], ["pulls", "ls"]):
            found = deployment.look(*what, "-q").split()
            if found:
                left[" ".join(what)] = found
        left.update(on_disk(deployment))
        for name, stream in deployment.streams().items():
            if name != "BERTH_EVENTS" and stream.get("messages"):
                left[f"messages in {name}"] = stream["messages"]
        if not left:
            say("nothing is left behind")
            return
        if time.monotonic() > until:
            raise Failed(f"this is left behind: {json.dumps(left, indent=1)}")
        time.sleep(1)


def on_disk(deployment):
    """Files of blobs and directories of snapshots that are there."""
    left = {}
    content = deployment.root_of(deployment.containers("content")[0]) + "/var/lib/berth/content"
    blobs = [name for folder, _, names in os.walk(f"{content}/blobs") for name in names]
    ingests = os.listdir(f"{content}/ingest") if os.path.isdir(f"{content}/ingest") else []
    snapshots = f"{deployment.root_of(deployment.looker())}/var/lib/berth/snapshots"
    trees = [name for name in os.listdir(f"{snapshots}/overlayfs") if name.isdigit()] if os.path.isdir(f"{snapshots}/overlayfs") else []
    for what, found in (("blobs", blobs), ("ingests", ingests), ("snapshots", trees)):
        if found:
            left[f"{what} on disk"] = found[:10]
    return left
