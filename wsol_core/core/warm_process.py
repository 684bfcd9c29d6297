"""A process that has imported torch and forks a stage at each request, so that no stage of many imports it again.

Stages are started by `python -m stages.NAME`. Within `warm_process` a client stands first in the PATH as `python`. It
sends such a command to the process, with its folder, environment and standard streams, over a socket that only the user
can open, and ends with the stage's exit code. Any other command goes to the real `python`.

Libraries alone are imported before the fork; the project's own modules come from the caller's folder, as in a process
of its own. Nothing is computed before the fork, so that no thread of OpenMP stands and no GPU is open; OpenBLAS and
jemalloc take care of theirs.

A stage gets its client's signals and ends with it; the process ends with whoever started it, and its stages with it.
"""

import ctypes
import importlib
import json
import multiprocessing
import multiprocessing.context
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    "cv2", "h5py", "lightning_fabric", "pandas", "PIL.Image", "pyarrow.parquet", "pydantic.main", "safetensors.torch",
    "scipy.ndimage", "scipy.optimize", "scipy.sparse", "sklearn.linear_model", "timm", "torch", "torchvision", "tqdm",
    "yaml",
)  # fmt: skip
"""Imported before the fork; others cost a stage their time, no more."""
PYTHON = """\
#!/bin/sh
case "$1 $2" in
  "-m stages."*) exec {python} -IS {file} {address} "$@" ;;
  *) exec {python} "$@" ;;
esac
"""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a stage gets from its client."""
DIES_WITH_PARENT = 1
"""Linux: `PR_SET_PDEATHSIG`."""


@contextmanager
def warm_process() -> Iterator[dict[str, str]]:
    """Start the process; yield the environment variables with which stages are forked from it.

    Under a launcher of the user's own (`WSOL_LAUNCH`) stages with networks start as it has it. Outside Linux, where a
    fork is unsafe, there are no variables.
    """
    if sys.platform != "linux":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="wsol-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address, real = str(Path(folder, "socket")), Path(sys.executable)
        words = {"python": str(real), "file": str(Path(__file__).resolve()), "address": address}
        python = Path(folder, "python")
        python.write_text(PYTHON.format_map({name: shlex.quote(word) for name, word in words.items()}))
        python.chmod(0o700)
        listener.bind(address)
        listener.listen()
        process = subprocess.Popen(
            [real, "-P", __file__, str(listener.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the stages' callers
        )  # fmt: skip
        listener.close()
        try:
            yield {"PATH": os.pathsep.join((folder, str(real.parent), os.environ.get("PATH", "")))}
        finally:
            process.kill()
            process.communicate()


def _request(address: str, words: Sequence[str]) -> int:
    """Have a stage run, `words` being its module and arguments; returns its exit code, 1 where the process has gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is a stage to get them
    content = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
            connection.sendall(content)
            for number in FORWARDED:
                signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            answer = connection.recv(1)
    except OSError:
        answer = b""
    if not answer:
        sys.stderr.write("error: the process that stages are forked from has ended (out of memory?); run it again\n")
    return answer[0] if answer else 1


def _serve(listener: socket.socket) -> None:
    """Fork for one request after another, until standard input is closed by the end of who started this process."""
    for name in LIBRARIES:
        importlib.import_module(name)
    fork = multiprocessing.get_context("fork")
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        with listener.accept()[0] as connection, suppress(OSError, ValueError):  # a client may be gone
            request, streams = _receive(connection)
            stage = fork.Process(target=_run, args=(streams,), kwargs=request)
            stage.start()
            for stream in streams:
                os.close(stream)
            try:
                _forward_signals(connection, stage)
            finally:  # nothing to do for a stage that has ended
                stage.kill()
                stage.join()
            code = stage.exitcode or 0
            connection.sendall(bytes([code if code >= 0 else 128 - code]))  # as a shell has it
    shutil.rmtree(Path(listener.getsockname()).parent)


def _forward_signals(connection: socket.socket, stage: multiprocessing.context.ForkProcess) -> None:
    """Send a stage the signals that its client gets, until it, its client or whoever started this process ends."""
    while stage.sentinel not in (ready := select.select([stage.sentinel, connection, sys.stdin], [], [])[0]):
        sent = connection.recv(1) if connection in ready else b""
        if not sent or stage.pid is None:
            return
        os.kill(stage.pid, sent[0])


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What `_request` sent, and its standard streams."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        return json.loads(file.read(int.from_bytes(length, "big"))), streams


def _run(streams: Sequence[int], words: Sequence[str], folder: str, environment: dict[str, str]) -> None:
    """As `python -m MODULE ARGUMENT...` in a folder; killed with the process that forked."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:  # ADDRESS -m MODULE ARGUMENT...
        sys.exit(_request(sys.argv[1], sys.argv[3:]))
    _serve(socket.socket(fileno=int(sys.argv[1])))
