"""Hosts on one machine: network namespaces on a bridge, where the rights for that are there."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from twinspire_core.errors import UsageError

_PREFIX = "twfl"  # names of network interfaces have fifteen characters at most


@dataclass(frozen=True)
class Host:
    """A place where processes of the cluster run.

    Attributes:
      name: how people are told of it.
      address: how the other hosts, and this process, reach it.
      enter: the words before a command that is to run there.
    """

    name: str
    address: str
    enter: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """Some hosts.

    Attributes:
      bridge: the bridge that joins them; None if there is only this host.
      hosts: the manager first, then the workers.
    """

    bridge: str | None
    hosts: list[Host]


THIS_HOST = Network(None, [Host("this host", "127.0.0.1")])


def make(names: list[str]) -> Network | None:
    """Makes a network namespace for each name, all on one bridge, which this process reaches too.

    Returns:
      None where that is not allowed (it takes root, and iproute2).
    """
    # The first number that no other cluster has taken: several may run side by side.
    for number in range(1, 250):
        bridge = f"{_PREFIX}{number}"
        try:
            taken = _ip("link", "add", bridge, "type", "bridge")
        except FileNotFoundError:
            return None
        if taken.returncode == 0:
            try:
                return _fill(bridge, number, names)
            except subprocess.CalledProcessError:
                remove(bridge)
                return None
        if b"exists" not in taken.stderr:
            return None
    return None


def remove(bridge: str) -> None:
    """Removes a bridge with its namespaces; what still runs in them keeps running, unreachable."""
    for name in _namespaces():
        if name.startswith(f"{bridge}-"):
            _ip("netns", "delete", name)
    _ip("link", "delete", bridge)


def left(bridge: str) -> bool:
    """Whether something of it is there."""
    names = _namespaces()
    return (
        any(name.startswith(f"{bridge}-") for name in names)
        or _ip("link", "show", bridge).returncode == 0
    )


def listens(address: str, port: int) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def must_be_free(port: int) -> None:
    """Raises UsageError if something of this host listens on a port."""
    if listens("127.0.0.1", port):
        raise UsageError(
            f"Port {port} of 127.0.0.1 must be free for Flink, and something listens there. Stop"
            " it, or run as root: then the cluster has hosts of its own."
        )


def _fill(bridge: str, number: int, names: list[str]) -> Network:
    _must("address", "add", f"10.77.{number}.254/24", "dev", bridge)
    _must("link", "set", bridge, "up")
    return Network(bridge, list(_hosts(bridge, number, names)))


def _hosts(bridge: str, number: int, names: list[str]) -> Iterator[Host]:
    for place, name in enumerate(names, 1):
        space, cable = f"{bridge}-{name}", f"{bridge}p{place}"
        address = f"10.77.{number}.{place}"
        _must("netns", "add", space)
        _must("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _must("link", "set", cable, "master", bridge, "up")
        _must("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _must("-n", space, "link", "set", "eth0", "up")
        # The loopback of a new namespace is down.
        _must("-n", space, "link", "set", "lo", "up")
        yield Host(name, address, ("ip", "netns", "exec", space))


def _namespaces() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        lines = _ip("netns", "list").stdout.decode().splitlines()
        return [line.split()[0] for line in lines if line]
    return []


def _ip(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *words], capture_output=True)


def _must(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)
