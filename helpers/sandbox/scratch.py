"""The one folder a program may write in: made for it, watched, and removed whatever it did there."""

from __future__ import annotations

import contextlib
import os
import time

from helpers.sandbox import confine


class ScratchFolder:
    """The program's folder below `home`, made again only when the last program touched it.

    Attributes:
        path: where it is. landlock: descriptor of the ruleset that grants it, None without Landlock.
    """

    def __init__(self, home: str, readable: list[str], uid: int | None, *, limited: bool, name: str = ""):
        self._home, self._readable, self._uid, self._name = home, readable, uid, name
        self._limited = limited  # by the file system itself
        self._count = 0
        self._stamp: tuple = ()
        self.path = ""
        self.landlock: int | None = None
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
        os.chdir(self.path)  # children start there
        os.environ.update(HOME=self.path, TMPDIR=self.path)

    def _seen(self) -> tuple:
        """What changes when the folder itself is touched; its emptiness is looked at apart from this."""
        try:
            seen = os.stat(self.path, follow_symlinks=False)
        except OSError:  # removed
            return ()
        try:
            attributes = os.listxattr(self.path)
        except OSError:  # a file system without them
            attributes = []
        return (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_mtime_ns, seen.st_ctime_ns, *attributes)

    def clear(self) -> None:
        """Hand the folder on if it is as it was, else replace it by a new one."""
        try:
            untouched = self._stamp and self._seen() == self._stamp and not os.listdir(self.path)
        except OSError:
            untouched = False
        if untouched:
            return
        os.chdir(self._home)
        remove_tree(self.path)  # before the next one is made: the file system may be full
        self._make()

    def overfull(self) -> bool:
        """Whether the program wrote more than it may; asked while it runs, cheap if it wrote nothing."""
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
    """Remove a folder whatever a program did to modes, names and depth."""
    try:
        os.rmdir(folder)  # the usual case: nothing is in it
        return
    except OSError:
        pass
    import shutil  # not in every warm process: what it imports would make each fork dearer

    while True:
        with contextlib.suppress(OSError, RecursionError):
            _open_up(folder)
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(folder)
        if not os.path.isdir(folder) or not _flatten(folder):
            return


def _open_up(folder: str) -> None:
    """Give the owner all rights on a folder and those below it."""
    os.chmod(folder, 0o700)
    for place, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def _flatten(folder: str) -> bool:
    """Cut a nest too deep for recursion into a shallower one: whether anything was moved."""
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
