"""The address: can it be listened on, and who can reach it."""

from __future__ import annotations

import ipaddress
import socket

from octavo.api.server import bind
from octavo.config.schema import ServerConfig
from octavo.doctor.findings import Findings


def check_listening(config: ServerConfig, findings: Findings) -> None:
    """Listen on host and port for a moment, and warn of a server that is open to other machines without a key."""
    with findings.catching("address"), bind(config.host, config.port) as listener:
        address = listener.getsockname()[0]
        if not config.api_key and not _is_of_this_machine_alone(listener.family, address):
            findings.warning(
                "address",
                f"host {config.host} can be reached from other machines, and there is no API key: whoever reaches it "
                "may use the model. Set --api-key (or OCTAVO_API_KEY), or listen on 127.0.0.1.",
            )


def _is_of_this_machine_alone(family: socket.AddressFamily, address: str) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
