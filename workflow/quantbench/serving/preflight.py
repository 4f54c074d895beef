"""What can be known to go wrong before a server is started or asked, in words that name the cause and the remedy."""

from __future__ import annotations

import socket
from collections.abc import Collection

import psutil

from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.observe import given, programs
from quantbench.records.server import HOST, ServerSpec
from quantbench.serving import model_source, processes, registry


def check(spec: ServerSpec) -> None:
    """Devices, command, model and loopback interface. Raises QuantbenchError."""
    check_devices(spec)
    check_command(spec)
    model_source.check_source(spec)
    if error := loopback_fault():
        raise error


def check_devices(spec: ServerSpec) -> None:
    """They must be given to this run."""
    fault = next(filter(None, map(given.fault, spec.devices)), "")
    if fault and spec.platform == "cuda":
        raise QuantbenchError(f"server of {spec.model}: lanes.{spec.lane}.devices: {fault}", remedy=given.REMEDY)


def check_command(spec: ServerSpec) -> None:
    """The program must be there, and one that can be started."""
    program = spec.settings.command[0]
    if fault := programs.fault_of(program):
        raise QuantbenchError(
            f"server of {spec.model}: server.command '{program}' {fault}",
            remedy="install vLLM as the README says (its environment is made by make), or correct server.command",
        )


def loopback_fault() -> QuantbenchError | None:
    """What is wrong where no process of this machine can talk to another: our servers listen on loopback only."""
    try:
        with socket.create_server((HOST, 0)) as here, socket.create_connection(here.getsockname(), timeout=5):
            return None
    except OSError as error:
        return QuantbenchError(
            f"the loopback interface ({HOST}) does not work here: {error.strerror or error}",
            remedy="bring it up (`ip link set lo up`, as root), or run where there is one: a container or a namespace "
            "without a network has none",
        )


def port_holder(port: int) -> str:
    """Who listens on a port: `name (pid 1234)`, or which server of ours, as far as this user may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                pid = connection.pid
                return _named(pid) if pid else "a process of another user"
    except psutil.Error:
        pass
    return "another process"


def _named(pid: int) -> str:
    mark = processes.variable(pid, processes.MARK)
    mine = next((state for state in registry.servers() if state.mark == mark), None)
    name = f"{psutil.Process(pid).name()} (pid {pid})"
    return f"{name}, the server of {mine.spec.model} in {mine.home}" if mine else name


def stranger_on(port: int, pids: Collection[int]) -> str:
    """Who listens on a port in place of these processes; "" if one of them does, or nobody can tell."""
    try:
        here = (HOST, "0.0.0.0", "::", f"::ffff:{HOST}")
        listening = [c for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    except (psutil.Error, OSError):
        return ""
    holders = {c.pid for c in listening if c.laddr and c.laddr.port == port and c.laddr.ip in here}
    return "" if not holders or holders & set(pids) else port_holder(port)


def check_endpoint(spec: ServerSpec) -> str:
    """The base URL of a server that is not ours. Raises QuantbenchError if it does not serve the wanted model."""
    key, url = f"models.{spec.model}.endpoint", spec.url
    try:
        names = openai_api.models(f"{url}/v1/models", openai_api.key_of(spec))
    except openai_api.ClientError as error:
        raise QuantbenchError(f"{key}: {error}", remedy=openai_api.remedy(error, key)) from error
    if spec.served_name not in names:
        listed = openai_api.names_of(names, spec.served_name)
        raise QuantbenchError(
            f"{key}: {url} serves {listed}, not '{spec.served_name}'",
            remedy=f"set models.{spec.model}.served_name to one of them",
        )
    return url
