"""Files from the network: complete or absent, and those that the publisher published."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from mace_tp.errors import InputError

_TIMEOUT = 30  # s without an answer
_CHUNK = 2**20


def download(address: str, path: Path, md5: str | None = None) -> None:
    """Fetch a file; it gets its name once it is complete.

    Args:
        address: http, https or file.
        path: where it shall lie; its folder is there.
        md5: what it must have, or None where nobody says.

    Raises:
        InputError: there is no network, no such file, or it is not the one that was published.
    """
    part = path.with_name(path.name + ".part")
    request = urllib.request.Request(address, headers={"User-Agent": "mace-tp"})
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, open(part, "wb") as file:
            expected, size = answer.headers.get("Content-Length"), 0
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if expected is not None and size != int(expected):
            raise InputError(f"{address}: the connection ended after {size} of {expected} bytes; try again")
        if md5 is not None and digest.hexdigest() != md5:
            raise InputError(f"{address}: its MD5 is {digest.hexdigest()}, the published one {md5}; it is not the file that was published")
        part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise InputError(f"{address}: cannot be fetched ({_reason(error)}); with a copy of your own: --from PATH") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
