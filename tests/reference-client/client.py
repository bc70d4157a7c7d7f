"""Goes the way of the reference client of TUF through a repository in a directory.

Example: client.py REPOSITORY ROOT.json apps/pump.app
Prints the version of each role, then the SHA-256 of each file named. Exit code 1: the client refuses.
"""

import hashlib
import pathlib
import sys
import tempfile

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater


class DirectoryFetcher(FetcherInterface):
    """Reads what others download."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def _fetch(self, url):
        try:
            yield (self.directory / url).read_bytes()
        except FileNotFoundError as missing:
            raise DownloadHTTPError(f"{url} is not there", 404) from missing


def main(repository, root, *paths):
    with tempfile.TemporaryDirectory() as scratch:
        updater = Updater(
            metadata_dir=scratch,
            metadata_base_url="metadata/",
            target_dir=scratch,
            target_base_url="targets/",
            fetcher=DirectoryFetcher(repository),
            bootstrap=pathlib.Path(root).read_bytes(),
        )
        updater.refresh()
        trusted = updater._trusted_set
        for role in ("root", "timestamp", "snapshot", "targets"):
            print(role, getattr(trusted, role).version)
        for path in paths:
            target = updater.get_targetinfo(path)
            if target is None:
                raise RepositoryError(f"{path} is not released")
            name = path.replace("/", "%2F")
            file = updater.download_target(target, str(pathlib.Path(scratch) / name))
            print(path, hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RepositoryError as refused:
        print(f"refused: {type(refused).__name__}: {refused}")
        sys.exit(1)
