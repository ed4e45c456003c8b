"""A node without containers: the units of deploy/systemd under a systemd of their own, and what people do with them.

systemd-nspawn boots it: this machine's programs, read-only, with a root, processes and a network of its own. Nothing of it
is this machine's to clean up but one directory.
"""

import os
import shutil
import signal
import subprocess
import time
import uuid

from trial import processors, tree
from trial.engine import Failed, run, say

SERVICES = ["content", "metadata", "fetcher", "unpacker", "transfer", "gc", "gateway"]
TARGET = "/mnt"
BOOT_SECONDS = 30


class Node:
    """The machine; use it in a `with`."""

    def __init__(self, source, program, work):
        self.source, self.program, self.work = source, program, work
        self.root = f"{work}/node"
        self.process = self.leader = None

    def __enter__(self):
        self._furnish()
        with open(f"{self.work}/node.log", "w", encoding="utf-8") as log:
            # In a table of mounts of its own, which goes with it.
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--", "systemd-nspawn", "--quiet", "--directory", self.root, "--boot", "--register=no",
                 "--keep-unit", "--console=pipe", "--private-network",
                 f"--overlay-ro=/usr:{self.root}.usr:/usr", f"--bind-ro={self.work}/registry:/registry",
                 f"--bind-ro={self.source}/deploy/nats:/nats", "--", "systemd.unit=node.target"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_booted()
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, kind, *_):
        if kind and self.leader:
            said = subprocess.run(self._inside(["journalctl", "--no-pager", "-u", "berth*", "-n", "60"]), capture_output=True, text=True, check=False)
            say(f"the journal's last lines:\n{said.stdout}")
        # The kernel ends what is in the container with its first process, and nspawn goes with it.
        if self.leader and self.process.poll() is None:
            os.kill(self.leader, signal.SIGKILL)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for left in (self.root, f"{self.root}.usr"):
            shutil.rmtree(left, ignore_errors=True)

    def _furnish(self):
        """What a fresh Debian has beside /usr, as far as anything here asks for it; and Berth, as a package would put it."""
        for left in (self.root, f"{self.root}.usr"):
            shutil.rmtree(left, ignore_errors=True)
        for folder in ("etc/systemd", "var/lib", "proc", "sys", "dev", "run", "tmp", "root", "mnt", "registry", "nats", "usr", "etc/ssl/certs"):
            os.makedirs(f"{self.root}/{folder}")
        for folder in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{folder}", f"{self.root}/{folder}")
        for name in ("passwd", "group", "shadow", "gshadow", "os-release", "ld.so.cache", "ld.so.conf"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", f"{self.root}/etc/{name}")
        shutil.copy("/etc/ssl/openssl.cnf", f"{self.root}/etc/ssl")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", f"{self.root}/etc/ssl/certs")
        self._write("etc/machine-id", uuid.uuid4().hex + "\n")
        self._write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self._write("etc/hosts", "127.0.0.1 localhost registry\n")
        self._write("etc/registry.yml", _read(f"{self.work}/registry.yml"))
        self._write("etc/systemd/system/node.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n")
        units = f"{self.source}/deploy/systemd"
        for name in os.listdir(units):
            if name.endswith(".d"):
                shutil.copytree(f"{units}/{name}", f"{self.root}/etc/systemd/system/{name}")
            elif not name.endswith(".sysusers"):
                shutil.copy(f"{units}/{name}", f"{self.root}/etc/systemd/system/{name}")
        # Over this machine's /usr.
        os.makedirs(f"{self.root}.usr/bin")
        os.makedirs(f"{self.root}.usr/lib/sysusers.d")
        shutil.copy(self.program, f"{self.root}.usr/bin/berth")
        shutil.copy(f"{units}/berth.sysusers", f"{self.root}.usr/lib/sysusers.d/berth.conf")

    def _write(self, name, text):
        os.makedirs(os.path.dirname(f"{self.root}/{name}"), exist_ok=True)
        with open(f"{self.root}/{name}", "w", encoding="utf-8") as file:
            file.write(text)

    def _wait_booted(self):
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            self.leader = self.leader or _child(self.process.pid)
            if self.leader:
                state = subprocess.run(self._inside(["systemctl", "is-active", "node.target"]), capture_output=True, text=True, check=False)
                if state.stdout.strip() == "active":
                    return
            time.sleep(0.1)
        raise Failed(f"systemd does not start in a container of its own (package systemd-container):\n{_read(f'{self.work}/node.log')}")

    def _inside(self, words):
        return ["nsenter", "--target", str(self.leader), "--all", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *words]

    def do(self, *words, **options):
        return run(self._inside(words), **options)

    def has(self, reference, wanted):
        """Mounts an image where the services unpacked it and compares every file."""
        self.do("berth", "images", "mount", reference, TARGET)
        try:
            found = tree.read(f"/proc/{self.leader}/root{TARGET}")
        finally:
            self.do("berth", "images", "unmount", TARGET)
        wrong = tree.differences(tree.read(wanted), found)
        if wrong:
            raise Failed(f"{reference} is not what it should be:\n" + "\n".join(wrong))
        say(f"{reference}: {len(found)} files, each as it should be")

    def status(self, unit):
        """What the kernel says of a unit's process."""
        return self.do("sh", "-ec", f"cat /proc/$(systemctl show --property=MainPID --value {unit})/status")

    def is_well(self, *services):
        """Nothing failed, and nothing was forbidden that is needed."""
        failed = self.do("systemctl", "--failed", "--plain", "--no-legend")
        if failed.strip():
            raise Failed(f"systemd says of its units: {failed}")
        for service in services:
            self.do("berth", "healthcheck", "--health-socket", f"/run/berth/{service}/health.sock")


def play(node, shelf, reference):
    """One process behind a socket, then services of their own; each is used, and taken away and given back."""
    node.do("systemd-run", "--quiet", "--unit=registry", "docker-registry", "serve", "/etc/registry.yml")
    node.do("systemctl", "start", "berth.socket")
    node.do("berth", "pull", "--plain-http", reference)
    node.has(reference, shelf.tree(reference))
    processors.are_shared("berth.service", node.status("berth.service"))
    node.do("systemctl", "restart", "berth.service")
    if node.do("berth", "images", "ls", "-q").split() != [reference]:
        raise Failed(f"{reference} is gone after a restart of berth.service")
    node.is_well()
    say("berth.service: started by its socket, and all is there after a restart")
    node.do("systemctl", "stop", "berth.service", "berth.socket")

    node.do("sh", "-ec", """
        rm -rf --one-file-system /var/lib/berth
        /nats/certificates /etc/nats/certs localhost
        berth nats users --out /etc/nats/users
        cp /nats/nats.conf /etc/nats/
        : >/etc/nats/sync.conf
        mkdir -p -m 700 /etc/berth/nats
        cp /etc/nats/certs/ca.pem /etc/nats/users/*.nk /etc/berth/nats/
        chmod 600 /etc/berth/nats/*
        printf '[nats]\\nurl = "tls://localhost:4222"\\n' >/etc/berth/config.toml
        mkdir -p /etc/systemd/system/berth-gateway.socket.d
        printf '[Socket]\\nSocketGroup=adm\\n' >/etc/systemd/system/berth-gateway.socket.d/group.conf
        systemctl daemon-reload
        systemd-run --quiet --unit=nats nats-server -c /etc/nats/nats.conf
        systemctl start berth-gateway.socket
    """)
    # In an order that is none; the gateway comes with the first command.
    node.do("systemctl", "start", *(f"berth@{service}" for service in reversed(SERVICES[:-1])))
    pull = node.do("berth", "pull", "--detach", "--plain-http", reference).split()[-1]
    node.do("systemctl", "kill", "--signal=KILL", "berth@fetcher", "berth@unpacker")
    for service in SERVICES:
        node.do("systemctl", "restart", f"berth@{service}")
    node.do("berth", "pulls", "attach", pull)
    node.has(reference, shelf.tree(reference))
    owner = node.do("stat", "-c", "%U %G %a", "/run/berth/berth.sock").strip()
    if owner != "root adm 660":
        raise Failed(f"the socket's owner, group and mode are {owner} after restarts, and were root adm 660")
    node.is_well(*SERVICES)
    processors.are_shared("berth@unpacker", node.status("berth@unpacker"))
    say("berth@...: a pull went on while workers were killed and each service was restarted")


def _child(pid):
    """The first process in the container: the child of nspawn that is a systemd."""
    for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split():
        try:
            if _read(f"/proc/{child}/comm").strip() == "systemd":
                return int(child)
        except OSError:
            # One of those that only prepare it, and are gone.
            continue
    return None


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
