"""The layers that confine a sandboxed process, built from kernel features alone.

Each layer is tried when the process starts and reported as a `Layer`; none needs a package. System
calls that Python does not offer go through `ctypes`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import NamedTuple

from helpers.sandbox.call_filter import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, Filter, libc

# Landlock rights (linux/landlock.h): execute is never granted.
READ = (1 << 2) | (1 << 3)
WRITE_FILE = 1 << 1
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READABLE = ("/usr", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types",
            "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat")  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

CAP_DAC_READ_SEARCH, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1 << 2, 8, 24
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC_PRIVATE = 2, 4, 8, 0x44000
MNT_DETACH = 2
FOLDER_BYTES, FOLDER_ENTRIES = 64 * 2**20, 4096
FILE_BYTES, OPEN_FILES = 32 * 2**20, 64  # limits of one file's size, and of descriptors


class Layer(NamedTuple):
    """One means of containment: whether it works on this kernel for this user, and the reason."""

    name: str
    active: bool
    reason: str


class Confinement:
    """The rights that every child gives up before it runs a program, determined once per machine and user.

    Args:
        inherited_bytes: virtual memory that a fork starts with.
        uid: user and group to become, or None to keep the caller's.
        read_all: whether that user may read files it otherwise could not, such as an interpreter
            in root's home. It gains no right to write.
        call_filter: `own_filter`, or None if the kernel accepts no filters.
    """

    def __init__(self, inherited_bytes: int, uid: int | None, *, read_all: bool, call_filter: Filter | None):
        self.uid = uid
        self._inherited_bytes = inherited_bytes
        self._call_filter = call_filter
        self._read_all = read_all and uid is not None
        self._highest = max(1024, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))
        wanted = {resource.RLIMIT_FSIZE: FILE_BYTES, resource.RLIMIT_CORE: 0,
                  resource.RLIMIT_NOFILE: OPEN_FILES, resource.RLIMIT_MSGQUEUE: 0}  # fmt: skip
        if uid is not None:
            wanted[resource.RLIMIT_NPROC] = 64
        self._limits = [(which, _within_hard(which, value)) for which, value in wanted.items()]
        self._capset = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine, -1)

    def apply(
        self, cpu_seconds: int, memory_mb: int, landlock: int | None, keep: tuple[int, ...], sibling: int = 0
    ) -> None:
        """Give up every right that is not needed; call in a freshly forked child.

        Args:
            cpu_seconds: processor time after which the kernel kills the process.
            memory_mb: MiB of virtual memory beyond what the fork inherited.
            landlock: descriptor from `landlock_ruleset`, or None.
            keep: descriptors that stay open, besides 0, 1 and 2.
            sibling: added to the user id, so that judge and program run as different users.

        Raises:
            OSError: if a step fails that should not; the caller must then not run the program.
        """
        os.setsid()
        for which, value in self._limits:
            resource.setrlimit(which, value)
        memory = self._inherited_bytes + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, _within_hard(resource.RLIMIT_AS, memory))
        resource.setrlimit(resource.RLIMIT_CPU, _within_hard(resource.RLIMIT_CPU, cpu_seconds))
        self._close_others(keep if landlock is None else (*keep, landlock))
        if self.uid is not None:
            libc.prctl(PR_SET_KEEPCAPS, 1 if self._read_all else 0, 0, 0, 0)
            _become(self.uid + sibling)
        self._keep_capabilities(CAP_DAC_READ_SEARCH if self._read_all else 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)  # last: a change of user clears it
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs refused")
        if landlock is not None:
            if libc.syscall(446, landlock, 0) != 0:
                raise OSError(ctypes.get_errno(), "landlock refused")
            os.close(landlock)
        if self._call_filter is not None:
            self._call_filter.install()

    def _close_others(self, keep: tuple[int, ...]) -> None:
        low = 3
        for descriptor in sorted(keep):
            if descriptor > low:
                os.closerange(low, descriptor)
            low = descriptor + 1
        os.closerange(low, self._highest)

    def _keep_capabilities(self, capabilities: int) -> None:
        """Drop all capabilities but these; the inheritable set becomes empty (capset(2), version 3)."""
        header = struct.pack("=II", 0x20080522, 0)
        libc.syscall(self._capset, header, struct.pack("=6I", capabilities, capabilities, 0, 0, 0, 0))


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _within_hard(which: int, value: int) -> tuple[int, int]:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return value, value


def empty_bounding_set() -> None:
    """Keep all descendants of this process from regaining a capability by executing a file."""
    for capability in range(64 if os.geteuid() == 0 else 0):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def landlock_abi() -> int:
    """Return the kernel's Landlock version; 0 if it has none."""
    return max(0, libc.syscall(444, None, 0, 1))


def landlock_ruleset(readable: list[str], writable: str) -> int | None:
    """Return the descriptor of a ruleset; None if the kernel has no Landlock.

    Below `readable` it allows reading, below `writable` everything except executing. From ABI 4 on it also
    refuses TCP, from ABI 6 on also signals and abstract sockets to the outside.
    """
    abi = landlock_abi()
    if not abi:
        return None
    rights = FS_RIGHTS[max(version for version in FS_RIGHTS if version <= abi)]
    attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = libc.syscall(444, attributes, size, 0)
    if ruleset < 0:
        return None
    in_file = rights & ((1 << 1) | (1 << 2) | (1 << 14) | (1 << 15))
    grants = [(path, READ) for path in (*READABLE, *readable)]
    grants += [(path, (1 << 2) | WRITE_FILE | (1 << 14)) for path in DEVICES] + [(writable, rights & ~1)]
    for path, allowed in grants:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed &= rights if os.path.isdir(path) else in_file
        libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, descriptor), 0)
        os.close(descriptor)
    os.set_inheritable(ruleset, False)
    return ruleset


def enter_namespaces(folder: str) -> list[Layer]:
    """Leave the caller's network and put `folder` on a private file system, each if the kernel allows it.

    The file system lies in memory and is limited in bytes and entries. Only this process and its
    children see it, and it vanishes with the last of them.
    """
    uid, through = os.geteuid(), ""
    errors = []
    if uid != 0 and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) == 0:
        through = "through a user namespace; "
        errors = ["", _map_user(uid, os.getegid())]
    else:
        for kind in (CLONE_NEWNET | CLONE_NEWIPC, CLONE_NEWNS):
            errors.append("" if libc.unshare(kind) == 0 else os.strerror(ctypes.get_errno()))
    network, files = errors[0], errors[1] or _mount(folder)
    told = f"{through}no interface is up inside it"
    if network:
        told = f"the kernel refuses it ({network}); sockets are filtered instead"
    layers = [Layer("network namespace", not network, told)]
    told = f"{through}{FOLDER_BYTES // 2**20} MiB and {FOLDER_ENTRIES} entries for the program's folder"
    if files:
        told = f"the kernel refuses it ({files}); the folder's size is watched instead"
    return [*layers, Layer("own file system", not files, told)]


def _map_user(uid: int, gid: int) -> str:
    """Map the user's own ids into its new namespace; return the kernel's error, or ""."""
    texts = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    try:
        for name, text in texts.items():
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    except OSError as error:  # some distributions' security modules refuse this
        return error.strerror
    return ""


def unmount_folder(folder: str) -> None:
    """Unmount the file system from `folder`, so that the folder can be removed."""
    os.chdir("/")
    libc.umount2(os.fsencode(folder), MNT_DETACH)


def _mount(folder: str) -> str:
    """Mount an empty file system on `folder` in this namespace; return the kernel's error, or ""."""
    options = f"size={FOLDER_BYTES},nr_inodes={FOLDER_ENTRIES},mode=711".encode()
    flags, target = MS_NOSUID | MS_NODEV | MS_NOEXEC, os.fsencode(folder)
    refused = libc.mount(None, b"/", None, MS_REC_PRIVATE, None)
    refused = refused or libc.mount(b"sandbox", target, b"tmpfs", flags, options)
    return os.strerror(ctypes.get_errno()) if refused else ""


def cannot_become(uid: int, folder: str) -> str:
    """Return why a child cannot take user id `uid` and own a folder in `folder`; "" if it can."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            probe = os.path.join(folder, "probe")
            os.mkdir(probe)
            try:
                os.chown(probe, uid, uid)
            finally:
                os.rmdir(probe)
            _become(uid)
            status = 0
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"root cannot assign one here ({os.strerror(status)})" if status else ""


def readable_by_others(paths: list[str]) -> bool:
    """Return whether an unprivileged user can reach and list each of `paths` that exists."""
    for path in paths:
        real, wanted = os.path.realpath(path), 0o004
        while os.path.exists(real):
            wanted = 0o005 if os.path.isdir(real) and wanted == 0o004 else wanted
            if os.stat(real).st_mode & wanted != wanted:
                return False
            if os.path.dirname(real) == real:
                break
            real, wanted = os.path.dirname(real), 0o001
    return True
