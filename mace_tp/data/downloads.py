"""Files from the network: complete or absent, and those that the publisher published."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from mace_tp.errors import InputError
from mace_tp.run_directory import written_atomically

_TIMEOUT = 30  # s without an answer
_CHUNK = 2**20
# A network fails with any error of the system, also with those that a disk may have.
_NETWORK = (OSError, http.client.HTTPException)


def download(address: str, path: Path, md5: str | None = None) -> None:
    """Fetch a file; it gets its name once it is complete.

    Args:
        address: http, https or file.
        path: where it shall lie; its folder is there.
        md5: what it must have, or None where nobody says.

    Raises:
        InputError: there is no network, no such file, or it is not the one that was published.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with written_atomically(path) as beside, _open(address) as answer, open(beside, "wb") as file:
            expected, size = answer.headers.get("Content-Length"), 0
            while chunk := _read(answer, address):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            if expected is not None and size != int(expected):
                raise InputError(f"{address}: the connection ended after {size} of {expected} bytes; try again")
            if md5 is not None and digest.hexdigest() != md5:
                found = f"its MD5 is {digest.hexdigest()}, the published one {md5}"
                raise InputError(f"{address}: {found}; it is not the file that was published")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _open(address: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers={"User-Agent": "mace-tp"})
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except _NETWORK as error:
        raise _not_fetched(address, error) from error


def _read(answer: http.client.HTTPResponse, address: str) -> bytes:
    try:
        return answer.read(_CHUNK)
    except _NETWORK as error:
        raise _not_fetched(address, error) from error


def _not_fetched(address: str, error: Exception) -> InputError:
    return InputError(f"{address}: cannot be fetched ({_reason(error)}); with a copy of your own: --from PATH")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
