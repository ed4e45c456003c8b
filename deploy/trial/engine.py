"""A Docker engine of our own: started by hand, all it has below one directory, stopped with everything it started."""

import os
import shutil
import signal
import subprocess
import sys
import time

# Where the first does not start: without firewall rules (a kernel or a machine without iptables), and with plain copies
# instead of overlays (a root that is an overlay itself).
WAYS = [[], ["--iptables=false", "--ip6tables=false"],
        ["--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]]
START_SECONDS = 30
STOP_SECONDS = 30


class Failed(Exception):
    """What went wrong, with its remedy, for a person."""


class TooLate(Failed):
    """It did not end in time."""


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def run(command, **options):
    """Runs a program; one that fails is quoted with what it said."""
    limit = options.pop("timeout", 300)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, **options)
    except subprocess.TimeoutExpired as late:
        raise TooLate(f"{' '.join(command)}: did not end within {limit} s") from late
    if done.returncode != 0:
        said = (done.stdout[-2000:] + done.stderr[-4000:]).strip()
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout


class Engine:
    """dockerd on its own data root; use it in a `with`."""

    def __init__(self, root):
        self.root = root
        self.socket = f"{root}/docker.sock"
        self.process = None
        if len(self.socket) > 100:
            raise Failed(f"{self.socket} is too long for a unix socket; build in a directory with a shorter name")
        # The client that came with the engine; another one may come before it in PATH.
        self.client = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
        self.environment = dict(os.environ, DOCKER_HOST=f"unix://{self.socket}", DOCKER_BUILDKIT="1",
                                COMPOSE_DOCKER_CLI_BUILD="1", DOCKER_CONFIG=f"{root}/config")
        self.environment.pop("DOCKER_CONTEXT", None)

    def __enter__(self):
        self.clean()
        os.makedirs(f"{self.root}/config", exist_ok=True)
        said = ""
        for way in WAYS:
            if self._start(way):
                return self
            said = self._log()
            self.clean()
        raise Failed(f"dockerd does not start (as root, on a kernel with overlayfs, bridges and cgroups?); it says:\n{said}")

    def __exit__(self, *_):
        self.clean()

    def _start(self, way):
        with open(f"{self.root}/log", "w", encoding="utf-8") as log:
            # In a network and a table of mounts of its own: this machine's firewall, bridges and mounts stay as they are,
            # an engine that runs already is not in the way, and all of it goes with the last process. In a session of
            # its own, too: a Ctrl-C is ours, and the containers end by our hand. What is published on loopback needs one.
            self.process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--", "sh", "-c", '/bin/busybox ip link set lo up && exec "$@"', "sh",
                 "dockerd", "--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec",
                 "--pidfile", f"{self.root}/pid", "--host", f"unix://{self.socket}", "--bridge=none", *way],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if subprocess.run([self.client, "info"], env=self.environment, capture_output=True, check=False).returncode == 0:
                return True
            time.sleep(0.1)
        return False

    def _log(self):
        with open(f"{self.root}/log", encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-15:])

    def docker(self, *words, **options):
        return run([self.client, *words], env=self.environment, **options)

    def clean(self):
        """Ends the engine, also one that a trial before this one left behind, and what it had."""
        pid = self.process.pid if self.process else self._left_behind()
        if pid:
            # First the containers, whose shims outlive the engine; then the engine, which ends its containerd.
            try:
                ids = self.docker("ps", "-aq", timeout=20).split()
                if ids:
                    self.docker("rm", "-f", "-v", *ids, timeout=120)
            except Failed as failed:
                say(f"the engine could not be emptied: {failed}")
            self._end(pid)
        self.process = None
        self._unmount()
        for left in ("data", "exec", "pid", "docker.sock"):
            path = f"{self.root}/{left}"
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif os.path.lexists(path):
                os.unlink(path)

    def _left_behind(self):
        try:
            with open(f"{self.root}/pid", encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                return pid if self.root in file.read() else None
        except (OSError, ValueError):
            return None

    def _end(self, pid):
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                return
            until = time.monotonic() + STOP_SECONDS
            while time.monotonic() < until:
                if self.process and self.process.pid == pid:
                    if self.process.poll() is not None:
                        return
                elif not os.path.exists(f"/proc/{pid}"):
                    return
                time.sleep(0.05)

    def _unmount(self):
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            below = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{self.root}/")]
        for mounted in sorted(below, reverse=True):
            subprocess.run(["umount", "--lazy", mounted], check=False)
