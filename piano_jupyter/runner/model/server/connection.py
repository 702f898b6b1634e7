"""How a server is connected to: certificates and proxy.

Questions, lists of models and the check whether a server is there at all use the same connection settings.
"""

import functools
import os
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from piano_jupyter.config import NO_PROXY, PianoConfig
from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.model.server.bounded_body import BoundedTransport
from piano_jupyter.secrets.redactor import redact

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What a connection needs besides the address; equal ones can share connections."""

    verify: bool | str
    cert_file: str
    cert_dir: str
    proxy: str  #: its address, or ""
    encrypted: bool  #: the server or the proxy needs TLS

    def open(self) -> httpx.AsyncBaseTransport:
        """Return a transport with these settings. Raises ModelUnavailableError if they cannot be used."""
        if self.encrypted:
            context = tls_context(verify=self.verify, cert_file=self.cert_file, cert_dir=self.cert_dir)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused, and made at once
        limits = httpx.Limits(max_keepalive_connections=8)
        try:
            tunnel = self.proxy.startswith("https:")
            proxy = httpx.Proxy(self.proxy, ssl_context=context if tunnel else None) if self.proxy else None
            return BoundedTransport(httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy))
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise ModelUnavailableError(
                f"the proxy {redact(self.proxy)!r} cannot be used ({error}); set PianoConfig.proxy"
            ) from error


def connection_settings(config: PianoConfig, url: str) -> ConnectionSettings:
    """Return the settings for a connection to a server's address, as they are now."""
    proxy = _proxy(config, url)
    encrypted = url.startswith("https:") or proxy.startswith("https:")
    file, folder = (os.environ.get(name, "") if encrypted else "" for name in CERTIFICATE_VARIABLES)
    return ConnectionSettings(config.verify if encrypted else True, file, folder, proxy, encrypted)


@functools.cache
def tls_context(*, verify: bool | str, cert_file: str, cert_dir: str) -> ssl.SSLContext:
    """Return the trusted certificates, which are read once: this is slow.

    Raises ModelUnavailableError if they cannot be read.
    """
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    if isinstance(verify, str):
        named = {"PianoConfig.verify": verify}
        cert_file, cert_dir = ("", verify) if Path(verify).is_dir() else (verify, "")
    else:
        named = {name: path for name, path in zip(CERTIFICATE_VARIABLES, (cert_file, cert_dir), strict=True) if path}
    if not named:
        return httpx.create_ssl_context(trust_env=False)
    for name, path in named.items():
        if not any(Path(each).exists() for each in path.split(os.pathsep)):
            raise ModelUnavailableError(f"{name} names {path!r}, which does not exist; correct it, or remove it")
    try:
        return ssl.create_default_context(cafile=cert_file or None, capath=cert_dir or None)
    except OSError as error:
        where = " and ".join(f"{name} ({path!r})" for name, path in named.items())
        raise ModelUnavailableError(f"no certificates can be read from {where}: {error.strerror or error}") from error


def tls_problem(error: BaseException, url: str) -> str | None:
    """Say why no TLS connection was made; None if the error has another reason."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the server at {url} is not trusted ({cause.verify_message}); set PianoConfig.verify "
            f"(or SSL_CERT_FILE) to the file of the authority that issued it"
        )
    if isinstance(cause, ssl.SSLError):
        return f"no encrypted connection to {url} is possible ({cause.reason or cause}); does the server speak http?"
    return None


def proxy_note(config: PianoConfig, url: str) -> str:
    """Name the proxy to a server, for an error message; "" if there is none."""
    proxy = urlsplit(connection_settings(config, url).proxy)
    return f" through the proxy {proxy.netloc.rpartition('@')[2]}" if proxy.netloc else ""


def _proxy(config: PianoConfig, url: str) -> str:
    """Return the address of the proxy for a server, or ""."""
    parts = urlsplit(url)
    if config.proxy and url == config.base_url:  # the embedded model needs none
        return "" if config.proxy == NO_PROXY else config.proxy
    if _is_this_machine(parts.hostname or "") or proxy_bypass(parts.netloc):
        return ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    return found if "://" in found or not found else f"http://{found}"


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        return name in {"localhost", gethostname().lower()} or name.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
