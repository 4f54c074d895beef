"""A server that is not ours: what must hold before it is asked anything, and how it is addressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.serving import vllm_client
from quantbench.serving import vllm_command as command

Spec = Mapping[str, Any]

_KEY = f"set {vllm_client.KEY} to the key that the server wants"
_OF_STATUS = {401: _KEY, 403: _KEY, 404: "give the URL as far as its /v1, without what follows"}
_OF_TLS = {
    "CERTIFICATE_VERIFY": "name the file of the certificate's CA in SSL_CERT_FILE",
    "WRONG_VERSION_NUMBER": "write http:// for a server without TLS",
}


def check(spec: Spec) -> str:
    """The base URL of the spec's endpoint. Raises QuantbenchError if it does not serve the wanted model."""
    key, url = f"models.{spec['model']}.endpoint", command.url(spec)
    try:
        names = [str(entry.get("id")) for entry in vllm_client.models(url)]
    except vllm_client.ClientError as error:
        raise QuantbenchError(f"{key}: {error}", remedy=remedy_of(error)) from error
    if spec["served_name"] not in names:
        raise QuantbenchError(
            f"{key}: {url} serves {', '.join(names) or 'no model'}, not '{spec['served_name']}'",
            remedy=f"set models.{spec['model']}.served_name to one of them",
        )
    return url


def remedy_of(error: vllm_client.ClientError) -> str:
    """What to do about a server elsewhere that did not answer as it should."""
    of_tls = (remedy for sign, remedy in _OF_TLS.items() if sign in str(error))
    return _OF_STATUS.get(error.status or 0) or next(of_tls, "start that server, or correct the URL")
