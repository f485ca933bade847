"""Downloads that can be trusted and resumed: checksum, progress, retries, and a cache for several processes."""

import hashlib
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from softmaxes.files import InputError, check_regular, open_regular

CHUNK_BYTES = 1 << 16
NO_ADDRESS = "an address that is none"
MOST_BYTES = 2**30  # of a file: the largest official one has 170 MB


def download(
    address: str, folder: Path, *, checksum: str, retries: int = 5, delay: float = 1.0, timeout: float = 30.0
) -> Path:
    """The file at `address`, from `folder` if it is there already.

    A download that breaks off leaves ``<file>.part`` beside the target, and the next try goes on from there. The file
    appears under its own name only when it is whole and its checksum is right. Processes that want the same file wait
    for the first one.

    Args:
        address: an http or https address; its last part names the file.
        folder: where the file is kept; made if need be.
        checksum: ``md5:...`` or ``sha256:...``, in hexadecimal digits.
        retries: how often a broken download is tried again, five times if not said otherwise.
        delay: seconds before the first retry, doubled before each further one.
        timeout: seconds without an answer after which a try counts as broken.

    Raises:
        InputError: there is no such file, no connection, no place to keep it, or the checksum is another one.
    """
    try:
        target = folder / Path(urlsplit(address).path).name
    except ValueError:
        raise _no_download(address, NO_ADDRESS) from None
    fetcher = _Fetcher(target, checksum, retries, delay, timeout)
    try:
        if fetcher.is_there():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _console().print(f"Waiting for another process that downloads {target.name}.", highlight=False)
            lock.acquire()
        try:
            if not fetcher.is_there():
                fetcher.fetch(address)
            return target
        finally:
            lock.release()
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: expected a place to keep the download {target.name}, "
            f"got: {error.strerror or error}."
        ) from error


def _console() -> Console:
    return Console(stderr=True)


class _BrokenError(Exception):
    """A try that failed and may succeed when it is made again; the message says how it failed."""


@dataclass(frozen=True)
class _Fetcher:
    """One file: it is asked for again where a try fails, from where that one broke off."""

    target: Path
    checksum: str
    retries: int
    delay: float
    timeout: float

    @property
    def part(self) -> Path:
        """What there is of it so far."""
        return self.target.with_name(f"{self.target.name}.part")

    def is_there(self) -> bool:
        """Whether the file is there, whole; what stands in its way is refused."""
        if self.target.exists():
            check_regular(self.target)  # to read a pipe would wait for ever
        return self.target.exists() and self._sum(self.target) == self._expected

    @property
    def _expected(self) -> str:
        return self.checksum.partition(":")[2].lower()

    def _sum(self, path: Path) -> str:
        with open_regular(path) as file:
            return hashlib.file_digest(file, self.checksum.partition(":")[0]).hexdigest()

    def fetch(self, address: str) -> None:
        """Download `address`."""
        self._check_part()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = _console()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(self.part.stem, total=None)
            for attempt in range(self.retries + 1):
                try:
                    self._fetch(address, progress, task)
                    break
                except _BrokenError as reason:
                    if attempt == self.retries:
                        tries = f"{attempt + 1} tries" if attempt else "1 try"
                        raise _no_download(address, f"{reason} after {tries}") from reason
                    time.sleep(self.delay * 2**attempt)
        got = self._sum(self.part)
        if got != self._expected:
            self.part.unlink()
            expected = self.checksum.replace(":", " ", 1)
            raise InputError(f"{address}: expected a file with {expected}, got {got}; the download was removed.")
        self.part.replace(self.target)

    def _check_part(self) -> None:
        """Refuse what stands in the place of the partial file: a link would lead to a file that is not ours."""
        try:
            mode = self.part.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise InputError(f"{self.part}: expected a file or none, got a link; remove it.")
        check_regular(self.part)

    def _fetch(self, address: str, progress: Progress, task: TaskID) -> None:
        """One try: asks for what the partial file lacks and adds it."""
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(address, headers=headers, stream=True, timeout=self.timeout) as response:
                start, size = _content_range(response)
                if response.status_code == 416 and have:  # nothing after `have`
                    if have != size:
                        self.part.unlink()
                        raise _BrokenError("a partial file that does not fit")
                    return
                if response.status_code == 429 or response.status_code >= 500:
                    raise _BrokenError(f"status {response.status_code} {response.reason}")
                if response.status_code not in (200, 206):
                    raise _no_download(address, f"status {response.status_code} {response.reason}")
                if response.status_code == 206 and start != have:
                    self.part.unlink(missing_ok=True)
                    raise _BrokenError("another part of the file than asked for")
                if size > MOST_BYTES:
                    raise self._too_large(address)
                progress.update(task, completed=start, total=size or None)
                with self.part.open("ab" if response.status_code == 206 else "wb") as file:
                    for chunk in response.iter_content(CHUNK_BYTES):
                        if file.tell() + len(chunk) > MOST_BYTES:
                            raise self._too_large(address)
                        file.write(chunk)
                        progress.advance(task, len(chunk))
        except InputError:
            raise
        except ValueError:  # also those of the package's own for addresses
            raise _no_download(address, NO_ADDRESS) from None
        except requests.Timeout as error:
            raise _BrokenError(f"no answer within {self.timeout:g} s") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _BrokenError("a connection that broke off") from error
        except requests.RequestException as error:
            raise _BrokenError("no connection") from error

    def _too_large(self, address: str) -> InputError:
        self.part.unlink(missing_ok=True)
        return InputError(f"{address}: expected a file of at most {MOST_BYTES:,} bytes, got more; it was removed.")


def _content_range(response: requests.Response) -> tuple[int, int]:
    """Where the answer starts in the file, and the file's size, 0 if the server does not say."""
    number = r"\d{1,18}"
    stated = response.headers.get("Content-Range", "")
    if match := re.fullmatch(rf"bytes (?:({number})-{number}|\*)/({number}|\*)", stated):
        return int(match[1] or 0), 0 if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(number, length) else 0


def _no_download(address: str, reason: str) -> InputError:
    return InputError(
        f"{address}: expected a download, got {reason}; fetch the file some other way and pass it with --data-dir."
    )
