"""Stages that start at once: a `python` for the PATH that runs `python -m stages.X` in forks of one warm process.

Importing torch, timm and Fabric takes seconds, for each of the many stages that a pipeline has. The warm process has
imported these libraries and nothing of the project, so a stage still reads its own code from the folder it runs in.
Any other command line goes to the real interpreter.
"""

import array
import contextlib
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "cv2", "h5py", "lightning_fabric", "numpy", "pandas", "PIL.Image", "pyarrow.parquet", "pydantic",
    "safetensors.torch", "scipy.ndimage", "scipy.optimize", "scipy.sparse", "sklearn.linear_model", "timm", "torch",
    "torch._dynamo", "torchvision", "tqdm", "yaml",
)  # fmt: skip
CLIENT = """\
#!{python} -IS
import array, json, os, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith("stages."):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
server.sendmsg([len(request).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(request)
sys.exit(int(server.recv(8) or b"1"))
"""


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[str]:
    """A folder for the front of the PATH, whose `python` is the warm one as long as the context lasts."""
    address = f"\0wsol-{os.getpid()}-{folder}"[:100]
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    client.chmod(0o755)
    words = [sys.executable, "-m", "tests.pipeline.warm_python", address[1:]]
    with subprocess.Popen(
        words, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert server.stdout.readline() == b"warm\n"
        yield str(folder)
        server.stdin.close()


def serve(address: str) -> None:
    """Fork for each request until standard input ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork takes no threads along"
    assert not [name for name in sys.modules if name.split(".")[0] in ("wsol_core", "stages")]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        print("warm", flush=True)
        while listener in select.select([sys.stdin, listener], [], [])[0]:
            client, _ = listener.accept()
            with client:
                if os.fork() == 0:
                    _answer(client)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)


def _answer(client: socket.socket) -> NoReturn:
    """Run the request in a process of its own, so that its end is known whatever it is."""
    size, data, _, _ = client.recvmsg(8, socket.CMSG_SPACE(12))
    descriptors = array.array("i", data[0][2])
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += client.recv(1 << 16)
    words, folder, environment = json.loads(request)
    process = os.fork()
    if process == 0:
        client.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[0] = folder
        sys.argv[:] = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    client.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
