"""What can be known to go wrong before a server is started or asked, in words that name the cause and the remedy."""

from __future__ import annotations

import socket

import psutil

from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.observe import programs
from quantbench.records.server import HOST, ServerSpec
from quantbench.serving import model_source, processes, registry


def check(spec: ServerSpec) -> None:
    """Command, model and port. Raises QuantbenchError."""
    check_command(spec)
    model_source.check_source(spec)
    if error := loopback_fault():
        raise error
    check_port(spec)


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


def check_port(spec: ServerSpec) -> None:
    """The port must be free on the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, spec.port))
        except OSError as error:
            raise QuantbenchError(
                f"server of {spec.model}: port {spec.port} is taken by {port_holder(spec.port)} ({error.strerror})",
                remedy=f"end that process (a server of a dead run of yours: python -m quantbench lane sweep), or set "
                f"another models.{spec.model}.port",
            ) from error


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


_SET_KEY = f"set {openai_api.KEY} to the key that the server wants"
_REMEDY_OF_STATUS = {401: _SET_KEY, 403: _SET_KEY, 404: "give the URL as far as its /v1, without what follows"}


def check_endpoint(spec: ServerSpec) -> str:
    """The base URL of a server that is not ours. Raises QuantbenchError if it does not serve the wanted model."""
    key, url = f"models.{spec.model}.endpoint", spec.url
    try:
        names = openai_api.models(f"{url}/v1/models")
    except openai_api.ClientError as error:
        raise QuantbenchError(f"{key}: {error}", remedy=endpoint_remedy(error)) from error
    if spec.served_name not in names:
        raise QuantbenchError(
            f"{key}: {url} serves {', '.join(names) or 'no model'}, not '{spec.served_name}'",
            remedy=f"set models.{spec.model}.served_name to one of them",
        )
    return url


def endpoint_remedy(error: openai_api.ClientError) -> str:
    """What to do about a server elsewhere that did not answer as it should."""
    if error.tls:
        return openai_api.TLS_REMEDY
    return _REMEDY_OF_STATUS.get(error.status or 0) or "start that server, or correct the URL"
