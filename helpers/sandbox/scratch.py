"""The only folder that a program may write to: created for it, watched, and always removed afterwards."""

from __future__ import annotations

import contextlib
import os
import time

from helpers.sandbox import confine


class ScratchFolder:
    """The program's folder below `home`, replaced only if the last program touched it."""

    def __init__(self, home: str, readable: list[str], uid: int | None, *, limited: bool, name: str):
        self._home, self._readable, self._uid, self._name = home, readable, uid, name
        self._limited = limited  # the file system itself limits its size
        self._count = 0
        self.landlock: int | None = None  # descriptor of the ruleset that grants access to the folder
        self._wanted = confine.landlock_abi() > 0
        self._make()

    def _make(self) -> None:
        self._count += 1
        self.path = os.path.join(self._home, f"{self._count}{self._name}")
        os.mkdir(self.path, 0o700)
        if self._uid is not None:
            os.chown(self.path, self._uid, self._uid)
        if self.landlock is not None:
            os.close(self.landlock)
        self.landlock = confine.landlock_ruleset(self._readable, self.path) if self._wanted else None
        if self._count > 1 and self._wanted and self.landlock is None:
            raise OSError("Landlock was there and is not any more")
        self._wanted = self.landlock is not None
        self._stamp = self._seen()
        os.chdir(self.path)  # children start here
        os.environ.update(HOME=self.path, TMPDIR=self.path)

    def _seen(self) -> tuple:
        """Return values that change if the folder itself is touched; its contents are checked separately."""
        try:
            seen = os.stat(self.path, follow_symlinks=False)
        except OSError:  # removed
            return ()
        try:
            attributes = os.listxattr(self.path)
        except OSError:  # a file system without extended attributes
            attributes = []
        return (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_mtime_ns, seen.st_ctime_ns, *attributes)

    def clear(self) -> None:
        """Keep the folder for the next program if it is untouched, else replace it."""
        try:
            untouched = self._stamp and self._seen() == self._stamp and not os.listdir(self.path)
        except OSError:
            untouched = False
        if untouched:
            return
        os.chdir(self._home)
        remove_tree(self.path)  # before the new one is made: the file system may be full
        self._make()

    def overfull(self) -> bool:
        """Return whether the program has written too much; cheap if it wrote nothing, so poll it freely."""
        if self._limited or self._seen() == self._stamp:
            return False
        left_bytes, left_entries = confine.FOLDER_BYTES, confine.FOLDER_ENTRIES
        waiting = [self.path]
        while waiting and left_entries > 0 and left_bytes > 0:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left_entries -= 1
                    if left_entries <= 0:
                        break
                    with contextlib.suppress(OSError):
                        left_bytes -= entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
        return left_entries <= 0 or left_bytes <= 0


def remove_tree(folder: str) -> None:
    """Remove a folder, whatever a program did to modes, names and depth."""
    try:
        os.rmdir(folder)  # usually it is empty
        return
    except OSError:
        pass
    import shutil  # only if needed: what it imports would make every fork more expensive

    while True:
        with contextlib.suppress(OSError, RecursionError):
            _open_up(folder)
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(folder)
        if not os.path.isdir(folder) or not _flatten(folder):
            return


def _open_up(folder: str) -> None:
    """Give the owner all rights on a folder and its subfolders."""
    os.chmod(folder, 0o700)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def _flatten(folder: str) -> bool:
    """Move a part nested too deep for recursion up to `folder`; return whether anything was moved."""
    deep = folder
    for _ in range(200):
        below = [entry.name for entry in os.scandir(deep) if entry.is_dir(follow_symlinks=False)]
        if not below:
            return False
        deep = os.path.join(deep, below[0])
    try:
        os.rename(deep, os.path.join(folder, f"deep-{time.monotonic_ns()}"))
    except OSError:
        return False
    return True
