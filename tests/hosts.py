"""Hosts of their own: network namespaces, each with an address, at one bridge; they share no folder with the test.

with Hosts(3, hidden=folder) as hosts:
    hosts.address                    # of this machine, as the hosts reach it
    hosts[0].address                 # of the first host
    hosts[0].inside                  # what comes before a command to run it there
    hosts[0].cut()                   # its cable is pulled, for good
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from conftest import missing


def ip(*command: str) -> str:
    """What the program `ip` says."""
    return subprocess.run(["ip", *command], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Host:
    """A network namespace, and this machine's end of its cable."""

    name: str
    address: str
    hidden: Path

    @property
    def inside(self) -> list[str]:
        """Runs a command there, in an empty folder in place of the hidden one. `ip netns exec` lets it mount alone."""
        enter = 'mount -t tmpfs tmpfs "$0" && cd "$0" && HOME="$0" TMPDIR="$0" exec "$@"'
        return ["ip", "netns", "exec", self.name, "sh", "-c", enter, str(self.hidden)]

    def cut(self) -> None:
        """From now on nothing reaches it, and nobody is told."""
        ip("link", "set", self.name, "down")


class Hosts:
    """So many hosts, from entering its `with` block to leaving it; the test is skipped where that is not allowed.

    Args:
        hidden: a folder of which they see nothing; programs and packages lie elsewhere.
    """

    def __init__(self, number: int, hidden: Path) -> None:
        if shutil.which("ip") is None:
            missing("the program ip (package iproute2) is not installed")
        name = f"etl{random.randrange(1 << 32):08x}"  # Linux allows 15 letters
        self._bridge = f"{name}br"
        self._network = _free_network()
        self.address, *addresses = (str(address) for address in islice(self._network.hosts(), 1 + number))
        self._hosts = [Host(f"{name}h{place}", address, hidden) for place, address in enumerate(addresses)]
        self._stack = contextlib.ExitStack()

    def __getitem__(self, place: int) -> Host:
        return self._hosts[place]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            try:
                self._build(stack)
            except subprocess.CalledProcessError as error:
                missing(f"no network namespaces can be made here ({error.stderr.strip()})")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self, stack: contextlib.ExitStack) -> None:
        bits = self._network.prefixlen
        ip("link", "add", self._bridge, "type", "bridge")
        stack.callback(ip, "link", "del", self._bridge)
        ip("address", "add", f"{self.address}/{bits}", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        for host in self._hosts:
            ip("netns", "add", host.name)
            stack.callback(ip, "netns", "del", host.name)
            ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            stack.callback(ip, "link", "del", host.name)
            ip("link", "set", host.name, "master", self._bridge, "up")
            ip("-n", host.name, "address", "add", f"{host.address}/{bits}", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", host.name, "link", "set", device, "up")


def _free_network() -> ipaddress.IPv4Network:
    """One that no interface of this machine is in."""
    taken = [
        ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for interface in json.loads(ip("-json", "-4", "address"))
        for address in interface["addr_info"]
    ]
    while True:
        network = ipaddress.IPv4Network((f"10.77.{random.randrange(256)}.0", 24))
        if not any(network.overlaps(other) for other in taken):
            return network
