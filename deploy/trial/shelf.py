"""What the trial's registry holds: a real Debian, and images of random files whose trees are known."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

from trial.engine import Failed, run

HOST = "registry:5000"


class Shelf:
    """A directory of docker-registry, filled by one that runs on this machine for as long as that takes."""

    def __init__(self, source, target, work):
        self.source, self.work = source, work
        self.layout = f"{target}/debian-image"
        self.trees = {}

    def fill(self, apps, layers, layer_bytes):
        """Pushes the Debian image and `apps` others; returns the references as the deployment sees them."""
        run([f"{self.source}/scripts/debian-image", self.layout], timeout=900)
        shutil.rmtree(f"{self.work}/registry", ignore_errors=True)
        os.makedirs(f"{self.work}/registry")
        port = _free_port()
        self._configure(f"{self.work}/push.yml", f"{self.work}/registry", f"127.0.0.1:{port}")
        self._configure(f"{self.work}/registry.yml", "/registry", ":5000")
        self._configure(f"{self.work}/mirror.yml", "/var/lib/registry", ":5000")
        with open(f"{self.work}/registry.log", "w", encoding="utf-8") as log:
            server = subprocess.Popen(["docker-registry", "serve", f"{self.work}/push.yml"], stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{port}/v2"
            _wait_for(base)
            run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{self.layout}/oci:latest",
                 f"docker://127.0.0.1:{port}/debian:12"])
            names = [f"{HOST}/debian:12"]
            for number in range(apps):
                names.append(self._app(base, number, layers, layer_bytes))
        finally:
            server.terminate()
            server.wait(timeout=20)
        return names

    def _app(self, base, number, layers, layer_bytes):
        """An image of random files: no two layers are alike, none gets smaller by compression."""
        rolls = random.Random(number)
        name, described, diff_ids = f"app{number}", [], []
        tree = f"{self.work}/trees/{name}"
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(tree)
        for layer in range(layers):
            archive = _layer(rolls, layer, layer_bytes)
            subprocess.run(["tar", "-x", "-p", "--numeric-owner", "-C", tree], input=archive, check=True)
            packed = gzip.compress(archive, compresslevel=1, mtime=0)
            diff_ids.append(_digest(archive))
            described.append(_push(base, name, packed, "application/vnd.oci.image.layer.v1.tar+gzip"))
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _push(base, name, config, "application/vnd.oci.image.config.v1+json"), "layers": described}).encode()
        _send("PUT", f"{base}/{name}/manifests/1", manifest, "application/vnd.oci.image.manifest.v1+json")
        self.trees[f"{HOST}/{name}:1"] = tree
        return f"{HOST}/{name}:1"

    def debian_tree(self):
        """The Debian image as umoci, another program, unpacks it."""
        bundle = f"{self.work}/trees/debian"
        if not os.path.isdir(bundle):
            os.makedirs(os.path.dirname(bundle), exist_ok=True)
            run(["umoci", "unpack", "--image", f"{self.layout}/oci:latest", bundle])
        return f"{bundle}/rootfs"

    def tree(self, reference):
        return self.trees.get(reference) or self.debian_tree()

    @staticmethod
    def _configure(path, directory, address):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"version: 0.1\nlog: {{ level: warn }}\nstorage: {{ filesystem: {{ rootdirectory: {directory} }} }}\n"
                       f"http: {{ addr: '{address}' }}\n")


def _layer(rolls, layer, size):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        def add(name, data=b"", **facts):
            info = tarfile.TarInfo(name)
            info.mtime = 1_700_000_000 + layer
            for fact, value in facts.items():
                setattr(info, fact, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        add(f"layer{layer}", type=tarfile.DIRTYPE, mode=0o750, uid=layer, gid=7)
        parts = 16
        for part in range(parts):
            data = rolls.randbytes(size // parts)
            add(f"layer{layer}/file{part}", data=data, mode=0o640 + part % 8, uid=part, gid=layer)
        add(f"layer{layer}/link", type=tarfile.SYMTYPE, linkname="file0", mode=0o777)
        add(f"layer{layer}/hard", type=tarfile.LNKTYPE, linkname=f"layer{layer}/file1", mode=0o641, uid=1, gid=layer)
        add("changed", data=b"%02d" % layer, mode=0o600 + layer)
    return packed.getvalue()


def _digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _push(base, name, data, media_type):
    begun = _send("POST", f"{base}/{name}/blobs/uploads/", b"", "application/octet-stream")
    place = begun.headers["Location"]
    mark = "&" if "?" in place else "?"
    _send("PUT", f"{place}{mark}digest={_digest(data)}", data, "application/octet-stream")
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _send(method, url, data, media_type):
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": media_type})
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        raise Failed(f"{method} {url}: {error} {error.read()[:500]}") from error


def _wait_for(base):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{base}/", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failed(f"docker-registry does not answer on {base}; its log is beside its directory")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
