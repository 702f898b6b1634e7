"""How a server is connected to: certificates and proxy; the same for questions and MCP servers."""

import functools
import os
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from piano_jupyter.config import NO_PROXY, PianoConfig
from piano_jupyter.errors import PianoError
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

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the certificates to trust; None for those that the HTTP library trusts by itself.

        Raises PianoError if they cannot be read.
        """
        if not self.encrypted:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused, and made at once
        return tls_context(verify=self.verify, cert_file=self.cert_file, cert_dir=self.cert_dir)

    def proxy_error(self, error: Exception) -> PianoError:
        """Return the error for a proxy that the HTTP library does not take."""
        return PianoError(f"the proxy {redact(self.proxy)!r} cannot be used ({error}); set PianoConfig.proxy")


def connection_settings(config: PianoConfig, url: str) -> ConnectionSettings:
    """Return the settings for a connection to a server's address, as they are now."""
    proxy = _proxy(config, url)
    encrypted = url.startswith("https:") or proxy.startswith("https:")
    file, folder = (os.environ.get(name, "") if encrypted else "" for name in CERTIFICATE_VARIABLES)
    return ConnectionSettings(config.verify if encrypted else True, file, folder, proxy, encrypted)


@functools.cache
def tls_context(*, verify: bool | str, cert_file: str, cert_dir: str) -> ssl.SSLContext | None:
    """Return the certificates that are named, which are read once: this is slow. None if none are named.

    Raises PianoError if they cannot be read.
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
        return None
    for name, path in named.items():
        if not any(Path(each).exists() for each in path.split(os.pathsep)):
            raise PianoError(f"{name} names {path!r}, which does not exist; correct it, or remove it")
    try:
        return ssl.create_default_context(cafile=cert_file or None, capath=cert_dir or None)
    except OSError as error:
        where = " and ".join(f"{name} ({path!r})" for name, path in named.items())
        raise PianoError(f"no certificates can be read from {where}: {error.strerror or error}") from error


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
    named = "" if config.proxy == NO_PROXY else config.proxy
    if config.proxy and url == config.base_url:
        return named
    parts = urlsplit(url)
    if _is_this_machine(parts.hostname or "") or proxy_bypass(parts.netloc):  # the embedded model, for one
        return ""
    if config.proxy:
        return named
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
