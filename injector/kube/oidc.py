"""Renews the token of a kubeconfig's user with `auth-provider: oidc`.

The official client would do it with a session that follows redirects (a 307 of the issuer would send the refresh token
to another host) and verifies no certificate. So the two requests are made here: OpenID Connect Discovery 1.0, section
4, and RFC 6749, section 6. The official client does all other ways to log in.
"""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigLoader

from injector.kube import redirects
from injector.kube.connections import RefusedRedirectError, refuse_redirects
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_DISCOVERY: Final = "/.well-known/openid-configuration"
_OK: Final = 200


class Loader(KubeConfigLoader):
    """The loader of the official client, with another token exchange."""

    async def _refresh_oidc(self, provider: Any) -> None:  # noqa: ANN401 - a node of the official client
        """Put new tokens into a user's settings.

        Raises:
            ConfigException: There is no refresh token, or the issuer does not accept it.
        """
        settings: dict[str, Any] = provider["config"].value
        if not settings.get("refresh-token"):
            raise ConfigException("its OIDC token has expired and there is no refresh token: log in again")
        tokens = await _exchange(settings)
        settings["id-token"] = tokens["id_token"]
        settings["refresh-token"] = tokens.get("refresh_token") or settings["refresh-token"]


async def _exchange(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    issuer = str(settings.get("idp-issuer-url") or "").rstrip("/")
    client, secret = str(settings.get("client-id") or ""), str(settings.get("client-secret") or "")
    refresh = str(settings["refresh-token"])
    hidden = [base64.b64encode(value.encode()).decode() for value in (refresh, secret) if value]
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_trust(settings)),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            trust_env=True,
            middlewares=(refuse_redirects,),
        ) as session:
            async with session.get(f"{issuer}{_DISCOVERY}") as response:
                endpoint = str((await _read(response)).get("token_endpoint") or "")
            if urlsplit(issuer).scheme == "https" and urlsplit(endpoint).scheme != "https":
                raise ConfigException("its OIDC issuer names a token endpoint without TLS")
            form = {"grant_type": "refresh_token", "refresh_token": refresh}
            headers = {"Accept": "application/json", "Authorization": aiohttp.encode_basic_auth(client, secret)}
            async with session.post(endpoint, data=form, headers=headers) as response:
                tokens = await _read(response)
    except RefusedRedirectError as error:
        words = redirects.explain(error.status, error.location, error.base, hidden)
        raise ConfigException(f"its OIDC token cannot be renewed: {words}") from None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise ConfigException(f"its OIDC issuer cannot be reached ({type(error).__name__})") from None
    if not isinstance(tokens.get("id_token"), str):
        raise ConfigException("its OIDC issuer's answer has no id_token")
    return tokens


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """Return the JSON object of an answer."""
    if response.status != _OK:
        raise ConfigException(f"its OIDC issuer answers with status {response.status}: log in again")
    try:
        answer = await response.json(content_type=None)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ConfigException("its OIDC issuer's answer is not a JSON object")
    return answer


def _trust(settings: Mapping[str, Any]) -> ssl.SSLContext:
    data, file = settings.get("idp-certificate-authority-data"), settings.get("idp-certificate-authority")
    if data:
        return ssl.create_default_context(cadata=base64.b64decode(data).decode())
    return ssl.create_default_context(cafile=str(file) if file else None)
