"""The seccomp filter: which system calls a sandboxed process may not make.

Two filters are stacked. The warm process installs the shared filter, which all its descendants
inherit. Each program or judge finally installs its own filter, which contains its process id.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
MACHINES = ("x86_64", "aarch64")
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PID = 0x5A5A5A5A  # placeholder for the process id until the filter is installed

# System calls refused with EPERM: (x86_64, aarch64); None where the machine has no such call.
REFUSED = {
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217), "bind": (49, 200),
    "bpf": (321, 280), "chroot": (161, 51), "connect": (42, 203), "delete_module": (176, 106),
    "fanotify_init": (300, 262), "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "fspick": (433, 433), "init_module": (175, 105), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_uring_setup": (425, 425), "ioprio_set": (251, 30),
    "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219),
    "listen": (50, 201), "migrate_pages": (256, 238), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "move_pages": (279, 239), "mq_open": (240, 180), "msgctl": (71, 187),
    "msgget": (68, 186), "msgrcv": (70, 188), "msgsnd": (69, 189), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "semctl": (66, 191), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "setns": (308, 268), "setpriority": (141, 140), "shmat": (30, 196),
    "shmctl": (31, 195), "shmget": (29, 194), "socket": (41, 198), "swapoff": (168, 225),
    "swapon": (167, 224), "syslog": (103, 116), "tkill": (200, 130), "unshare": (272, 97),
    "userfaultfd": (323, 282),
}  # fmt: skip
# Refused only to programs and judges: the warm process needs them.
REFUSED_LATER = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "pidfd_open": (434, 434), "umount2": (166, 39), "vfork": (58, None),
}  # fmt: skip
# Landlock does not stop these on files of the same user. If the program has no user id of its own,
# they do nothing and report success, so that honestly copying a file still works.
IDLE_FOR_SAME_USER = {
    "chmod": (90, None), "chown": (92, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "fchown": (93, 55), "fchownat": (260, 54), "fremovexattr": (199, 16),
    "fsetxattr": (190, 7), "futimesat": (261, None), "lchown": (94, None), "lremovexattr": (198, 15),
    "lsetxattr": (189, 6), "removexattr": (197, 14), "setxattr": (188, 5), "setxattrat": (463, 463),
    "truncate": (76, 45), "utime": (132, None), "utimensat": (280, 88), "utimes": (235, None),
}  # fmt: skip
CLONE, CLONE3, KILL, TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
PRLIMIT, SOCKETPAIR, FCNTL, IOCTL, PRCTL = (302, 261), (53, 199), (72, 25), (16, 29), (157, 167)
CLONE_THREAD = 0x10000
FORBIDDEN_FCNTL = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others through a descriptor
FORBIDDEN_IOCTL = (0x5412, 0x8901, 0x8902)  # TIOCSTI, FIOSETOWN, SIOCSPGRP
FORBIDDEN_PRCTL = (PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER)
ALLOW, DO_NOTHING, DIE = 0x7FFF0000, 0x00050000, 0x80000000
REFUSE, NOT_THERE = DO_NOTHING | errno.EPERM, DO_NOTHING | errno.ENOSYS

Step = tuple[int, int, int, int]


class Filter:
    """A filter ready to install; its buffers are laid out before any fork."""

    def __init__(self, code: bytes):
        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = Program(len(code) // 8, ctypes.addressof(self._buffer))
        self._pointer = ctypes.byref(self._program)
        mark = struct.pack("=I", PID)
        self._pid_offsets = [at for at in range(4, len(code), 8) if code[at : at + 4] == mark]

    def install(self) -> None:
        """Install the filter for this process and its children; it cannot be removed.

        Raises:
            OSError: if the kernel refuses.
        """
        pid = os.getpid()
        for offset in self._pid_offsets:
            struct.pack_into("=I", self._buffer, offset, pid)
        may_filter = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        if not may_filter or libc.prctl(PR_SET_SECCOMP, 2, self._pointer, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp filter refused")


def seccomp_available() -> bool:
    """Return whether the kernel accepts filters and this machine's system call numbers are known."""
    if os.uname().machine not in AUDIT_ARCH or struct.calcsize("P") != 8:
        return False
    return libc.prctl(PR_SET_SECCOMP, 2, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EFAULT


def shared_filter() -> Filter:
    """Return the filter for the warm process and its descendants: `REFUSED`, and only stream socket pairs."""
    which = MACHINES.index(os.uname().machine)
    is_stream = ((0x54, 0, 0, 0xF), (0x15, 1, 0, 1))
    code = _all(REFUSED, which, REFUSE)
    code += _when(SOCKETPAIR[which], _argument(1), *is_stream, _give(REFUSE), _give(ALLOW))
    return Filter(_assembled(code))


def own_filter(*, same_user: bool) -> Filter:
    """Return the filter for one program: threads, but no processes, signals to others or memory files.

    Args:
        same_user: whether the program keeps the caller's user id and could therefore change its files.
    """
    which = MACHINES.index(os.uname().machine)
    # clone3 passes its flags in memory, where a filter cannot see them; libc falls back to clone.
    code = _when(CLONE3[which], _give(NOT_THERE))
    code += _when(CLONE[which], _argument(0), (0x45, 1, 0, CLONE_THREAD), _give(REFUSE), _give(ALLOW))
    code += _all(REFUSED_LATER, which, REFUSE)
    code += _all(IDLE_FOR_SAME_USER, which, DO_NOTHING) if same_user else []
    for call in (KILL, TGKILL):
        code += _when(call[which], _argument(0), (0x15, 1, 0, PID), _give(REFUSE), _give(ALLOW))
    limits = [(0x15, 2, 0, PID), (0x15, 1, 0, 0), _give(REFUSE), _give(ALLOW)]
    code += _when(PRLIMIT[which], _argument(0), *limits)
    code += _unless(FCNTL[which], 1, FORBIDDEN_FCNTL)
    code += _unless(IOCTL[which], 1, FORBIDDEN_IOCTL)
    code += _unless(PRCTL[which], 0, FORBIDDEN_PRCTL)
    return Filter(_assembled(code))


def _argument(index: int) -> Step:
    return (0x20, 0, 0, 16 + 8 * index)  # low half of the argument, little endian


def _give(value: int) -> Step:
    return (0x06, 0, 0, value)


def _when(number: int | None, *body: Step) -> list[Step]:
    return [] if number is None else [(0x15, 0, len(body), number), *body]


def _all(calls: dict[str, tuple[int | None, int | None]], which: int, value: int) -> list[Step]:
    return [step for pair in calls.values() for step in _when(pair[which], _give(value))]


def _unless(number: int, index: int, values: tuple[int, ...]) -> list[Step]:
    """Refuse the call if its argument at `index` is one of `values`."""
    tests = [(0x15, len(values) - nth, 0, value) for nth, value in enumerate(values)]
    return _when(number, _argument(index), *tests, _give(ALLOW), _give(REFUSE))


def _assembled(body: list[Step]) -> bytes:
    """Put the machine check and the load of the call number before `body`, and assemble."""
    machine = os.uname().machine
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCH[machine]), _give(DIE), (0x20, 0, 0, 0)]
    if machine == "x86_64":
        code += [(0x35, 0, 1, 0x40000000), _give(REFUSE)]  # the x32 numbering
    return b"".join(struct.pack("=HBBI", *step) for step in [*code, *body, _give(ALLOW)])
