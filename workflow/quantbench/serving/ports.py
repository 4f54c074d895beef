"""Ports of this machine: a server listens on the one that its configuration names, or on a free one.

A run has a free port for one of its models until it ends: a claim in the state folder, as of devices. Runs that see
other claims (another user, a job with a temporary folder of its own) are kept off by the kernel: from the choice until
the server listens there, the port is bound. A server may bind it beside that (SO_REUSEADDR), another choice may not.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.records.base import write
from quantbench.records.server import HOST, ServerSpec
from quantbench.records.serving import PortClaim
from quantbench.serving import owner, preflight, processes, trust

FIRST = 8000
"""Free ports are looked for from here up to those that the kernel hands out to connections."""
_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MOST, _FEWEST = 65536, 100


def _folder() -> Path:
    return trust.folder(owner.state_dir() / "ports")


@contextlib.contextmanager
def held(spec: ServerSpec) -> Iterator[ServerSpec]:
    """The spec with its port, which nobody else may choose until the server listens there.

    Raises QuantbenchError with the holder of a port that is named and taken.
    """
    with socket.socket() as keeper:
        if spec.port:
            _keep_named(keeper, spec)
            yield spec
        else:
            yield replace(spec, port=_chosen(keeper, spec.model))


def release() -> None:
    """Give back every port that this owner has claimed."""
    mine = owner.current()
    with trust.locked(_folder() / "ports.lock"):
        for port, claim in _claims().items():
            if claim.owner == mine:
                _file(port).unlink(missing_ok=True)


def _keep_named(keeper: socket.socket, spec: ServerSpec) -> None:
    try:
        _bind(keeper, spec.port, again=True)
    except OSError as error:
        raise QuantbenchError(
            f"server of {spec.model}: port {spec.port} is taken by {preflight.port_holder(spec.port)} "
            f"({error.strerror})",
            remedy=f"end that process (a server of a dead run of yours: python -m quantbench lane sweep), set another "
            f"models.{spec.model}.port, or leave it out: a free one is chosen then",
        ) from error


def _chosen(keeper: socket.socket, model: str) -> int:
    """The port that this run has for the model, else the first free one, claimed now."""
    me = owner.current()
    with trust.locked(_folder() / "ports.lock"):
        claims = _claims()
        mine = [port for port, claim in claims.items() if claim.owner == me and claim.model == model]
        others = {*claims, *owner.named_ports()}
        for port in [*mine, *(port for port in range(FIRST, _end()) if port not in others)]:
            with contextlib.suppress(OSError):
                _bind(keeper, port, again=port in mine)
                write(_file(port), PortClaim(owner=me, model=model, folder=str(Path.cwd()), since=time.time()))
                return port
            _file(port).unlink(missing_ok=True)  # somebody who sees no claims has taken it since
    raise QuantbenchError(f"server of {model}: no port of {FIRST} to {_end() - 1} is free", remedy="end what has them")


def _bind(keeper: socket.socket, port: int, *, again: bool) -> None:
    """Bind without listening. `again`: a server of ours had it, of which the kernel may still have closed connections.

    Raises OSError if somebody has it.
    """
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
    keeper.bind((HOST, port))
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)


def _end() -> int:
    """The first port that is not ours to choose."""
    with contextlib.suppress(OSError, ValueError):
        handed_out = int(_HANDED_OUT.read_text().split()[0])
        return handed_out if handed_out >= FIRST + _FEWEST else _MOST
    return _MOST


def _claims() -> dict[int, PortClaim]:
    """{port: claim} of the runs that live; files of others are removed."""
    found = {}
    for path in _folder().glob("*.json"):
        claim = None
        with contextlib.suppress(FileNotFoundError, QuantbenchError):
            claim = trust.read(path, PortClaim)
        if claim and path.stem.isdecimal() and processes.alive(claim.owner):
            found[int(path.stem)] = claim
        else:
            path.unlink(missing_ok=True)
    return found


def _file(port: int) -> Path:
    return _folder() / f"{port}.json"
