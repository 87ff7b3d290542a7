"""The sandbox without namespaces, Landlock or root: it reports the missing layers and still contains programs."""

import json
import os
import signal
import subprocess
import sys

import pytest

from helpers.sandbox.api import sandbox_layers
from helpers.sandbox.call_filter import seccomp_available
from helpers.sandbox.confine import readable_by_others

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = """
import json, os, sys
sys.path.insert(0, ROOT)
from helpers.sandbox import call_filter
which = call_filter.MACHINES.index(os.uname().machine)
code = []
if "namespaces" in MISSING:
    for name in ("unshare", "mount"):
        code += call_filter._when(call_filter.REFUSED[name][which], call_filter._give(call_filter.REFUSE))
if "landlock" in MISSING:
    for number in (444, 445, 446):
        code += call_filter._when(number, call_filter._give(call_filter.NOT_THERE))
if code:
    call_filter.Filter(call_filter._assembled(code)).install()
if UID:
    os.setgroups([]); os.setresgid(UID, UID, UID); os.setresuid(UID, UID, UID)
from helpers.sandbox.api import Program, run_programs, sandbox_layers
tests = "assert f(2) == 4\\nassert f(3) == 9\\n"
programs = {
    "right": "def f(x):\\n    open('a', 'w').write('x')\\n    return x * x",
    "numpy": "import numpy as np\\ndef f(x): return int(np.square(x))",
    "exit": "import os\\ndef f(x): os._exit(0)",
    "fork": "import os\\ndef f(x):\\n    os.fork()\\n    return x * x",
    "network": "import socket\\ndef f(x):\\n    socket.create_connection(('127.0.0.1', 9), 1)\\n    return x * x",
    "refused network": "import socket\\ndef f(x):\\n    try: socket.socket()\\n    except PermissionError: return x * x",
    "outside": f"def f(x):\\n    open({OUTSIDE!r} + '/evil', 'w')\\n    return x * x",
    "mode outside": f"import os\\ndef f(x):\\n    os.chmod({OUTSIDE!r}, 0)\\n    return x * x",
    "kill": "import os\\ndef f(x):\\n    os.kill(os.getppid(), 9)\\n    return x * x",
    "too much": "def f(x):\\n    for n in range(60):\\n        with open(str(n), 'wb') as s: s.write(b'x' * 2**23)\\n    while True: pass",
    "too many": "def f(x):\\n    for n in range(10**6): open(str(n), 'w').close()\\n    return x * x",
    "endless": "def f(x):\\n    while True: pass",
}
outcomes = run_programs([Program(code, tests, "f", 1.0) for code in programs.values()], workers=2)
print(json.dumps({
    "layers": {layer.name: layer.active for layer in sandbox_layers()},
    "outcomes": {name: [o.status, o.detail] for name, o in zip(programs, outcomes)},
}))
"""


def run(outside, missing, uid):
    code = CODE.replace("ROOT", repr(ROOT)).replace("OUTSIDE", repr(str(outside))).replace("UID", str(uid))
    done = subprocess.run(
        [sys.executable, "-c", code.replace("MISSING", repr(missing))],
        capture_output=True, text=True, timeout=120, check=False, cwd=outside,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(outside.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not seccomp_available(), reason="this kernel takes no filters to take layers away with")
@pytest.mark.parametrize(
    "missing", [[], ["namespaces"], ["namespaces", "landlock"]], ids=lambda m: " ".join(m) or "all"
)
@pytest.mark.parametrize("unprivileged", [False, True])
def test_sandbox_holds_with_fewer_layers_and_reports_them(tmp_path, missing, unprivileged):
    uid = 65534 if unprivileged and os.geteuid() == 0 else 0
    if uid and not readable_by_others([sys.prefix, sys.base_prefix, ROOT, str(tmp_path)]):
        pytest.skip("the interpreter lies where only root can read")
    outside = tmp_path / "outside"
    outside.mkdir()
    os.chmod(outside, 0o755)
    if uid:
        os.chown(outside, uid, uid)
        os.chmod(tmp_path, 0o777)
    found = run(outside, missing, uid)
    layers, outcomes = found["layers"], found["outcomes"]
    if missing:
        assert not layers["network namespace"]
        assert not layers["own file system"]
    if "landlock" in missing:
        assert not layers["landlock"]
        assert layers["audit hook on files"] == (not layers["own user id"])
    assert layers["system call filter"]
    assert layers["own user id"] == (os.geteuid() == 0 and not uid)
    statuses = {name: status for name, (status, _) in outcomes.items()}
    right = {name for name, status in statuses.items() if status == "passed"} - {"mode outside"}
    assert right == {"right", "numpy", "refused network"}, outcomes
    assert statuses["endless"] == "timeout"
    assert not {"infrastructure_error"} & set(statuses.values()), outcomes
    assert list(outside.iterdir()) == []
    assert os.stat(outside).st_mode & 0o777 == 0o755


@pytest.mark.parametrize("uid", [None, 61184])
def test_a_program_ends_with_the_warm_process_that_forked_it(uid):
    """The kernel forgets a process's death signal when its user changes, so it must be set after that."""
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can take another user id")
    code = (
        "import ctypes, os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from helpers.sandbox import confine\n"
        f"rights = confine.Confinement(2**30, {uid}, read_all=False, call_filter=None)\n"
        "signal = ctypes.c_int(0)\n"
        "rights.apply(10, 1024, None, ())\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)\n"
        "print(signal.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == signal.SIGKILL


def test_layers_are_reported():
    layers = {layer.name: layer for layer in sandbox_layers()}
    assert layers["resource limits"].active
    assert all(layer.reason for layer in layers.values())
    assert {"network namespace", "own file system", "landlock", "system call filter", "own user id"} <= set(
        layers
    )
