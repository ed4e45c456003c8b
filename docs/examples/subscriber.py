#!/usr/bin/env python3
"""A subscriber that may come and go: each event of images once, whatever happened in between.

    pip install nats-py[nkeys]
    docs/examples/subscriber.py nats://localhost:4222 my-name 10 [ca.pem subscriber.nk]

It has a durable consumer on the stream of events: the server remembers what was acknowledged. An event that was handled
and not yet acknowledged when the program died comes again, with the same number; what is not newer was handled.
"""

import asyncio
import json
import ssl
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig


async def main(url, name, wanted, ca=None, nkey=None):
    options = {}
    if ca and nkey:
        # The user `subscriber` of `berth nats users`: it may read events and nothing else.
        options = {"tls": ssl.create_default_context(cafile=ca), "nkeys_seed": nkey}
    connection = await nats.connect(url, **options)
    # All namespaces, only images: the server filters.
    subscription = await connection.jetstream().pull_subscribe(
        "berth.events.*.images.>", durable=name, stream="BERTH_EVENTS",
        config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT))
    # Where this is kept is up to you: beside what the events lead to, and written with it.
    handled = {}
    while wanted > 0:
        try:
            messages = await subscription.fetch(min(wanted, 100), timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            source, sequence = message.headers["ce-source"], int(message.headers["ce-sequence"])
            if sequence > handled.get(source, 0):
                event = json.loads(message.data)
                print(json.dumps({"id": message.headers["ce-id"], "type": message.headers["ce-type"],
                                  "event": event["event"]}), flush=True)
                handled[source] = sequence
                wanted -= 1
            await message.ack()
    await connection.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
