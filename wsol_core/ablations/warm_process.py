"""A process that has imported torch and forks a stage at each request, so that no stage of many runs imports it again.

`dvc.yaml` starts stages with networks by `${WSOL_LAUNCH:-python} -m stages.NAME`. Within `warm_process` that is this
file as a client, which imports nothing heavy: it hands its words, folder, environment and standard streams to the
process, over a socket in a folder that only the user can open, and ends with the stage's exit code. Libraries alone are
imported before the fork; the project's own modules come from the client's folder, as in a process of its own. Nothing
is computed before the fork, so that no thread of OpenMP stands and no GPU is open; OpenBLAS and jemalloc take care of
theirs.

A stage ends with its client, the process with whoever started it, and both with the process.
"""

import ctypes
import importlib
import json
import multiprocessing
import os
import runpy
import select
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
    "cv2", "h5py", "lightning_fabric", "pandas", "pyarrow.parquet", "pydantic.main", "safetensors.torch",
    "scipy.ndimage", "timm", "torch", "torchvision", "yaml",
)  # fmt: skip
"""Imported before the fork; others cost a stage their time, no more."""
ADDRESS = "WSOL_WARM_PROCESS"
"""Environment variable: path of the socket."""
CLIENT = "python -S -E -m wsol_core.ablations.warm_process"
"""`python` is found by `PATH`, as the words are split at blanks."""
DIES_WITH_PARENT = 1
"""Linux: `PR_SET_PDEATHSIG`."""


@contextmanager
def warm_process() -> Iterator[dict[str, str]]:
    """Start the process; yield the environment variables with which stages are forked from it.

    None where the user has a launcher of their own (`WSOL_LAUNCH`), or where a fork is unsafe: outside Linux.
    """
    if sys.platform != "linux" or os.environ.get("WSOL_LAUNCH"):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="wsol-") as folder:
        address = str(Path(folder, "socket"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), str(listener.fileno())],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for the stages' clients
            )  # fmt: skip
        try:
            yield {"WSOL_LAUNCH": CLIENT, ADDRESS: address}
        finally:
            process.kill()
            process.communicate()


def _request(words: Sequence[str]) -> int:
    """Have a stage run, `words` being its module and arguments; returns its exit code, 1 where the process has gone."""
    content = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
            connection.sendall(content)
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
            if stage.sentinel not in select.select([stage.sentinel, connection, sys.stdin], [], [])[0]:
                stage.kill()
            stage.join()
            code = stage.exitcode or 0
            connection.sendall(bytes([code if code >= 0 else 128 - code]))  # as a shell has it
    shutil.rmtree(Path(listener.getsockname()).parent)


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
    sys.path[0], sys.argv = folder, list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1] == "-m":
        sys.exit(_request(sys.argv[2:]))
    _serve(socket.socket(fileno=int(sys.argv[1])))
