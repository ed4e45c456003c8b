"""Compares two trees of files: kinds, owners, modes, times, bytes, attributes, links and devices."""

import hashlib
import os
import stat


def read(root):
    """What each name below a directory is."""
    found, inodes = {}, {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            shown = os.path.relpath(path, root)
            found[shown] = _entry(path, shown, inodes)
    # Names of one file are known by the first of them.
    for names in inodes.values():
        for name in names:
            found[name]["same as"] = min(names)
    return found


def _entry(path, shown, inodes):
    facts = os.lstat(path)
    entry = {"mode": oct(facts.st_mode), "owner": (facts.st_uid, facts.st_gid)}
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    entry["attributes"] = {name: value.hex() for name, value in attributes.items() if not name.startswith("trusted.overlay.")}
    if stat.S_ISREG(facts.st_mode):
        with open(path, "rb") as file:
            entry["bytes"] = hashlib.file_digest(file, "sha256").hexdigest()
        entry["time"] = int(facts.st_mtime)
        if facts.st_nlink > 1:
            inodes.setdefault(facts.st_ino, []).append(shown)
    elif stat.S_ISLNK(facts.st_mode):
        entry["target"] = os.readlink(path)
    elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
        entry["device"] = facts.st_rdev
    return entry


def differences(wanted, found, most=10):
    """The first differences, as lines."""
    lines = []
    for name in sorted(set(wanted) | set(found)):
        if name not in found:
            lines.append(f"{name}: is missing")
        elif name not in wanted:
            lines.append(f"{name}: should not be there")
        elif wanted[name] != found[name]:
            lines.append(f"{name}: {found[name]} instead of {wanted[name]}")
    return lines[:most]
