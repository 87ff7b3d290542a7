"""What a sandboxed process may not do, layer by layer, with the kernel's own means.

Each layer is tried where the process starts and reported by `Layer`; none needs a package. The
numbers below are the kernel's (x86_64 and aarch64), used through `ctypes`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from dataclasses import dataclass

libc = ctypes.CDLL(None, use_errno=True)
MACHINES = ("x86_64", "aarch64")
PID = 0x5A5A5A5A  # stands for a process id in `own_filter`
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# System calls refused with EPERM: (x86_64, aarch64); None where the machine has no such call.
REFUSED = {
    "accept": (43, 202), "accept4": (288, 242), "add_key": (248, 217), "bind": (49, 200), "bpf": (321, 280),
    "chroot": (161, 51), "connect": (42, 203), "delete_module": (176, 106), "execve": (59, 221),
    "execveat": (322, 281), "finit_module": (313, 273), "fork": (57, None), "init_module": (175, 105),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "kcmp": (312, 272), "kexec_load": (246, 104), "keyctl": (250, 219), "listen": (50, 201),
    "mount": (165, 40), "move_mount": (429, 429), "move_pages": (279, 239), "mq_open": (240, 180),
    "msgget": (68, 186), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41),
    "process_madvise": (440, 440), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "ptrace": (101, 117), "reboot": (169, 142), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "semget": (64, 190), "setns": (308, 268), "shmget": (29, 194),
    "socket": (41, 198), "swapoff": (168, 225), "swapon": (167, 224), "tkill": (200, 130),
    "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282), "vfork": (58, None),
}  # fmt: skip
LATER = ("fork", "vfork", "execve", "execveat", "pidfd_open")  # the warm process itself needs some of these
CLONE, CLONE3, KILL, TGKILL, PRLIMIT, SOCKETPAIR = (
    (56, 220),
    (435, 435),
    (62, 129),
    (234, 131),
    (302, 261),
    (53, 199),
)
CLONE_THREAD = 0x10000
ALLOW, REFUSE, NOT_THERE, DIE = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000

# Landlock rights (linux/landlock.h): execute is never granted.
READ = (1 << 2) | (1 << 3)
WRITE_FILE = 1 << 1
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READABLE = ("/usr", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types",
            "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat")  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

CAP_DAC_READ_SEARCH, PR_SET_KEEPCAPS = 1 << 2, 8
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = (
    1,
    4,
    24,
    36,
    38,
)
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000


@dataclass(frozen=True)
class Layer:
    """One means of containment: whether this kernel and user let it work, and why (not)."""

    name: str
    active: bool
    reason: str


def confine_process(
    *,
    cpu_seconds: int,
    address_space: int,
    file_bytes: int,
    landlock_ruleset: int | None,
    uid: int | None,
    read_all: bool,
    keep: tuple[int, ...],
    call_filter: bytes | None,
) -> None:
    """Give up everything that the program does not need; for a freshly forked child.

    Args:
        cpu_seconds: processor time after which the kernel kills the process.
        address_space: bytes of virtual memory, what the fork inherited included.
        file_bytes: size limit of any one file written.
        landlock_ruleset: descriptor from `landlock_ruleset`, or None.
        uid: user and group to become, or None to stay.
        read_all: whether that user may read files it otherwise could not, such as an interpreter
            that lies in root's home; it can write nothing by that.
        keep: descriptors that stay open, beside 0, 1, 2.
        call_filter: `own_filter`, or None where the kernel takes no filters.

    Raises:
        OSError: when a step fails that should not; the caller must not run the program then.
    """
    os.setsid()
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 128,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if uid is not None:
        limits[resource.RLIMIT_NPROC] = 64
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    close_others(keep)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    if uid is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1 if read_all else 0, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _keep_capabilities(CAP_DAC_READ_SEARCH if uid is not None and read_all else 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs refused")
    if landlock_ruleset is not None:
        if libc.syscall(446, landlock_ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock refused")
        os.close(landlock_ruleset)
    if call_filter is not None:
        install_filter(for_process(call_filter, os.getpid()))


def close_others(keep: tuple[int, ...]) -> None:
    """Close every descriptor but 0, 1, 2 and `keep`."""
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, max(low, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536), 1024))


def empty_bounding_set() -> None:
    """No process below this one can regain a capability by executing a file."""
    for capability in range(64 if os.geteuid() == 0 else 0):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def _keep_capabilities(capabilities: int) -> None:
    """Empty the effective, permitted and inheritable sets but for this mask (capset(2), version 3)."""
    header = struct.pack("=II", 0x20080522, 0)
    sets = struct.pack("=6I", capabilities, capabilities, 0, 0, 0, 0)
    libc.syscall({"x86_64": 126, "aarch64": 91}.get(os.uname().machine, -1), header, sets)


def seccomp_available() -> bool:
    """Whether the kernel takes filters and the machine's system call numbers are known."""
    if os.uname().machine not in AUDIT_ARCH or struct.calcsize("P") != 8:
        return False
    return libc.prctl(22, 2, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EFAULT


def install_filter(code: bytes) -> None:
    """Load a system call filter for this process and its children; it cannot be taken off again."""
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.addressof(buffer))
    if (
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        or libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")


def shared_filter() -> bytes:
    """Classic BPF for the warm process and all below it: `REFUSED` but for `LATER`, and sockets."""
    which = MACHINES.index(os.uname().machine)
    code = []
    for name, pair in REFUSED.items():
        if name not in LATER:
            code += _when(pair[which], _give(REFUSE))
    stream_only = [_argument(1), (0x54, 0, 0, 0xF), (0x15, 1, 0, 1), _give(REFUSE), _give(ALLOW)]
    code += _when(SOCKETPAIR[which], *stream_only)
    return _assembled(code)


def own_filter() -> bytes:
    """Classic BPF for one program: no new processes (threads pass), no signals to anyone else.

    The process id is left as `PID`, to be put in by `for_process`.
    """
    which = MACHINES.index(os.uname().machine)
    code = _when(CLONE3[which], _give(NOT_THERE))  # its flags lie in memory; libc falls back to clone
    code += _when(CLONE[which], _argument(0), (0x45, 1, 0, CLONE_THREAD), _give(REFUSE), _give(ALLOW))
    for name in LATER:
        code += _when(REFUSED[name][which], _give(REFUSE))
    for call in (KILL, TGKILL):
        code += _when(call[which], _argument(0), (0x15, 1, 0, PID), _give(REFUSE), _give(ALLOW))
    limits = [(0x15, 2, 0, PID), (0x15, 1, 0, 0), _give(REFUSE), _give(ALLOW)]
    code += _when(PRLIMIT[which], _argument(0), *limits)
    return _assembled(code)


def for_process(code: bytes, pid: int) -> bytes:
    """`own_filter` with the process id filled in."""
    return code.replace(struct.pack("=I", PID), struct.pack("=I", pid))


def _argument(place: int) -> tuple[int, int, int, int]:
    return (0x20, 0, 0, 16 + 8 * place)  # low half of the argument, little endian


def _give(value: int) -> tuple[int, int, int, int]:
    return (0x06, 0, 0, value)


def _when(number: int | None, *body: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    return [] if number is None else [(0x15, 0, len(body), number), *body]


def _assembled(body: list[tuple[int, int, int, int]]) -> bytes:
    """`body` behind the check of the machine and the loading of the call's number."""
    machine = os.uname().machine
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCH[machine]), _give(DIE), (0x20, 0, 0, 0)]
    if machine == "x86_64":
        code += [(0x35, 0, 1, 0x40000000), _give(REFUSE)]  # the x32 numbering
    return b"".join(struct.pack("=HBBI", *step) for step in [*code, *body, _give(ALLOW)])


def landlock_abi() -> int:
    """Version of Landlock in this kernel; 0 where there is none."""
    return max(0, libc.syscall(444, None, 0, 1))


def landlock_ruleset(readable: list[str], writable: str) -> int | None:
    """Descriptor of a ruleset: read below `readable`, do anything but execute below `writable`.

    From ABI 4 on TCP is refused too, from 6 on signals and abstract sockets to the outside.
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


def leave_network() -> Layer:
    """Put this process and its children into network and IPC namespaces of their own, if allowed."""
    if libc.unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0:
        return Layer("network namespace", True, "no interface is up inside it")
    if os.geteuid() != 0 and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0:
        return Layer("network namespace", True, "through a user namespace; no interface is up inside it")
    reason = os.strerror(ctypes.get_errno())
    return Layer(
        "network namespace", False, f"the kernel refuses it ({reason}); sockets are filtered instead"
    )


def readable_by_others(paths: list[str]) -> bool:
    """Whether an unprivileged user can reach and list every path that exists."""
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
