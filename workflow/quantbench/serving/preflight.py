"""What can be known to go wrong before a server is started or asked, in words that name the cause and the remedy."""

from __future__ import annotations

import shutil
import socket

import psutil

from quantbench.engines import openai_api
from quantbench.engines.protocol import HOST, Spec, url_of
from quantbench.errors import QuantbenchError
from quantbench.serving import model_source


def check(spec: Spec) -> None:
    """Command, model and port. Raises QuantbenchError."""
    check_command(spec)
    model_source.check_source(spec)
    check_port(spec)


def check_command(spec: Spec) -> None:
    """The executable must exist."""
    program = str(spec["settings"]["command"][0])
    if not shutil.which(program):
        raise QuantbenchError(
            f"server of {spec['model']}: the command '{program}' does not exist here",
            remedy="install vLLM as the README says (its environment is made by make), or set server.command",
        )


def check_port(spec: Spec) -> None:
    """The port must be free on the loopback interface."""
    port = int(spec["port"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise QuantbenchError(
                f"server of {spec['model']}: port {port} is taken by {port_holder(port)} ({error.strerror})",
                remedy=f"end that process, or set another models.{spec['model']}.port",
            ) from error


def port_holder(port: int) -> str:
    """Who listens on a port: `name (pid 1234)`, as far as this user may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                pid = connection.pid
                return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "a process of another user"
    except psutil.Error:
        pass
    return "another process"


_SET_KEY = f"set {openai_api.KEY} to the key that the server wants"
_REMEDY_OF_STATUS = {401: _SET_KEY, 403: _SET_KEY, 404: "give the URL as far as its /v1, without what follows"}
_REMEDY_OF_TLS = {
    "CERTIFICATE_VERIFY": "name the file of the certificate's CA in SSL_CERT_FILE",
    "WRONG_VERSION_NUMBER": "write http:// for a server without TLS",
}


def check_endpoint(spec: Spec) -> str:
    """The base URL of a server that is not ours. Raises QuantbenchError if it does not serve the wanted model."""
    key, url = f"models.{spec['model']}.endpoint", url_of(spec)
    try:
        names = [str(entry.get("id")) for entry in openai_api.models(url)]
    except openai_api.ClientError as error:
        raise QuantbenchError(f"{key}: {error}", remedy=endpoint_remedy(error)) from error
    if spec["served_name"] not in names:
        raise QuantbenchError(
            f"{key}: {url} serves {', '.join(names) or 'no model'}, not '{spec['served_name']}'",
            remedy=f"set models.{spec['model']}.served_name to one of them",
        )
    return url


def endpoint_remedy(error: openai_api.ClientError) -> str:
    """What to do about a server elsewhere that did not answer as it should."""
    of_tls = (remedy for sign, remedy in _REMEDY_OF_TLS.items() if sign in str(error))
    return _REMEDY_OF_STATUS.get(error.status or 0) or next(of_tls, "start that server, or correct the URL")
