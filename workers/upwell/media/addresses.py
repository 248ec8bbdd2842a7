"""Where a URI may lead: schemes, hosts, and the addresses that host names resolve to.

An address is looked at after resolution and once more on the socket that connects to it, so that neither a name, nor a
number written oddly, nor a name that changes its mind leads into the network that the worker stands in.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from upwell.media.errors import MediaRejected

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
MOST_ADDRESSES: Final = 32


def why_refused(address: str) -> str:
    """Why nothing is fetched from there; empty where it is a public address.

    >>> why_refused("::ffff:10.0.0.1")
    '::ffff:10.0.0.1 is a private address'
    """
    try:
        parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address[:64]} is not an address"
    for inner in (parsed, *_embedded(parsed)):
        for kind in ("loopback", "link_local", "multicast", "unspecified", "private", "reserved"):
            if getattr(inner, f"is_{kind}"):
                return f"{address} is a {kind.replace('_', '-')} address"
        if not inner.is_global:
            return f"{address} is not a public address"
    return ""


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that an IPv6 address stands for: mapped, 6to4, Teredo, NAT64, compatible."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in NAT64 or (int(address) >> 32 == 0 and int(low) > 0xFFFF):
        found.append(low)
    return [inner for inner in found if inner is not None]


def stands_in(host: str, names: Sequence[str]) -> bool:
    """Whether a host is one of the names; `*.example.org` stands for all hosts below example.org."""
    host = host.lower().rstrip(".")
    return any(host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower())) for name in names)


class Guard(AbstractResolver):
    """Resolves names for aiohttp, and makes its sockets.

    Args:
        private: hosts that may lie at any address.
    """

    def __init__(self, private: Sequence[str]) -> None:
        self._private = private
        self._trusted: set[str] = set()
        self._resolver: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a host; one that is refused refuses them all.

        Raises:
            MediaRejected: the host lies in a network that nothing is fetched from.
            OSError: it cannot be resolved.
        """
        self._resolver = self._resolver or ThreadedResolver()
        found = (await self._resolver.resolve(host, port, family))[:MOST_ADDRESSES]
        self.admit(host, [result["host"] for result in found])
        return found

    def admit(self, host: str, addresses: Sequence[str]) -> None:
        """Raises: MediaRejected, as `resolve`."""
        if stands_in(host, self._private):
            self._trusted.update(addresses)
            return
        for address in addresses:
            if why := why_refused(address):
                raise MediaRejected(f"host {host[:200]}: {why}; media.allow_private_hosts lists exceptions")

    def socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """The socket for an address, with the last look at it: what connects is what was checked."""
        family, kind, protocol, _, address = info
        if address[0] not in self._trusted and (why := why_refused(address[0])):
            raise PermissionError(why)
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        if self._resolver:
            await self._resolver.close()
