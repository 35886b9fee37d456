"""Fetches a zip archive, checks it, and unpacks it whole or not at all."""

import hashlib
import pathlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile

from recjax import files, progress
from recjax.errors import DataError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECS = 60


def fetch_zip(url: str, sha256: str, member: str, folder: pathlib.Path) -> None:
  """Puts the files of an archive's folder `member` into `folder`.

  Args:
    url: of the archive.
    sha256: hex digest that the archive must have.
    member: the folder inside the archive.
    folder: the new folder; it appears only when everything went well.

  Raises:
    DataError: there is no network, the archive is another one, or it lacks
      the folder.
  """
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder.parent) as archive:
      _download(url, sha256, archive)
      _unpack(url, archive, member, folder)
  except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
    raise DataError(
      f"could not fetch {url}: {error}. Fetch and unpack it elsewhere and put"
      f" its files into {folder.absolute()}."
    ) from error


def _download(url: str, sha256: str, archive) -> None:
  digest = hashlib.sha256()
  with urllib.request.urlopen(url, timeout=_TIMEOUT_SECS) as response:
    size = int(response.headers.get("Content-Length") or 0) or None
    with progress.progress_bar(f"fetching {url}", size, unit="B") as bar:
      while block := response.read(_BLOCK_BYTES):
        digest.update(block)
        archive.write(block)
        bar.advance(len(block))
  if digest.hexdigest() != sha256:
    raise DataError(
      f"{url} has the SHA-256 {digest.hexdigest()} instead of {sha256}: the"
      " transfer was cut or the archive is another one. Nothing was unpacked."
    )


def _unpack(url: str, archive, member: str, folder: pathlib.Path) -> None:
  with zipfile.ZipFile(archive) as content:
    inside = [
      entry
      for entry in content.infolist()
      if not entry.is_dir()
      and pathlib.PurePosixPath(entry.filename).parent.name == member
    ]
    if not inside:
      raise DataError(f"{url} holds no folder {member!r}.")
    with files.replace_directory(folder) as new:
      for entry in inside:
        target = new / pathlib.PurePosixPath(entry.filename).name
        with content.open(entry) as source, open(target, "wb") as file:
          shutil.copyfileobj(source, file)
