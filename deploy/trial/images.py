"""Images for the trial, made on this machine under their public names: nothing is pulled from anywhere."""

import os
import shutil
import subprocess

from trial.engine import run, say


def berth(engine, source, program, work):
    """Berth's own image, by its Dockerfile, from a program that was built already."""
    context = f"{work}/context"
    shutil.rmtree(context, ignore_errors=True)
    run([f"{source}/deploy/rootfs", program, f"{context}/rootfs"])
    engine.docker("build", "-q", "-f", f"{source}/deploy/Dockerfile", "--build-arg", "FROM=prebuilt", "-t", "berth:latest", context)
    size = int(engine.docker("image", "inspect", "-f", "{{.Size}}", "berth:latest"))
    say(f"the image berth:latest has {size >> 20} MiB")


def nats(engine, work):
    """As `nats:2-alpine`: the server, and a wget for the health check (busybox has one)."""
    root = _root(work, "nats", ["/usr/sbin/nats-server", "/bin/busybox"])
    os.makedirs(f"{root}/data", exist_ok=True)
    os.symlink("/usr/sbin/nats-server", f"{root}/usr/bin/nats-server")
    for applet in ("sh", "wget"):
        os.symlink("/bin/busybox", f"{root}/usr/bin/{applet}")
    _import(engine, root, "nats:2-alpine", ["nats-server"])


def registry(engine, work):
    """As `registry:2`: Debian's docker-registry, which is the same program."""
    root = _root(work, "docker-registry", ["/usr/bin/docker-registry"])
    os.symlink("/usr/bin/docker-registry", f"{root}/usr/bin/registry")
    _import(engine, root, "registry:2", ["registry", "serve"])


def observers(engine, source, work):
    """Prometheus as `prom/prometheus`, from Debian's package; and rotel."""
    root = _root(work, "prometheus", ["/usr/bin/prometheus", "/bin/busybox"])
    # A new volume is as what it covers; in the image that it stands in for, this is the user's.
    os.makedirs(f"{root}/prometheus")
    os.chmod(f"{root}/prometheus", 0o777)
    os.symlink("/bin/busybox", f"{root}/usr/bin/wget")
    _import(engine, root, "prom/prometheus:v3.5.0", ["/usr/bin/prometheus"], "65534:65534")
    program = run([f"{source}/scripts/rotel"]).strip()
    root = _root(work, "rotel", [program])
    shutil.copy(program, f"{root}/usr/bin/rotel")
    _import(engine, root, "rotel:trial", ["/usr/bin/rotel"], "65534:65534")


def looker(engine, work):
    """Berth's command line, and something that does nothing for as long as it is needed."""
    root = _root(work, "looker", ["/bin/busybox"])
    run(["cp", "-a", f"{work}/context/rootfs/system/.", root])
    os.makedirs(f"{root}/tmp/look")
    _import(engine, root, "looker:trial", ["/bin/busybox", "sleep", "1000000"])


def _root(work, name, programs):
    """A directory with programs and the libraries they are linked to."""
    root = f"{work}/{name}"
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(f"{root}/usr/bin")
    os.makedirs(f"{root}/tmp")
    for program in programs:
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        libraries = [word for line in linked.splitlines() for word in line.split() if word.startswith("/")]
        for path in [program, *libraries]:
            os.makedirs(os.path.dirname(f"{root}{path}"), exist_ok=True)
            shutil.copy(os.path.realpath(path), f"{root}{path}")
    return root


def _import(engine, root, name, entrypoint, user="0:0"):
    words = ", ".join(f'"{word}"' for word in entrypoint)
    archive = f"{root}.tar"
    run(["tar", "-C", root, "--owner=0", "--group=0", "-cf", archive, "."])
    engine.docker("import", "-c", f"ENTRYPOINT [{words}]", "-c", f"USER {user}", "-c", "ENV PATH=/usr/bin:/usr/sbin:/bin BERTH_DAEMON_ONLY=true", archive, name)
    os.unlink(archive)
