"""Attacks that take long: runs that are killed, a full disk, signals, threads.

Run `python -m benchmarks.reliability kills` (or `signals`, `disk`, `threads`; all without a word). Prints a line for
each attack, and exits with 1 where one is not survived. `kills`, `signals` and `threads` run the preset `tiny` in
copies of the last commit; `disk` mounts a small file system in memory, which takes root.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
WSOL = (sys.executable, "-c", "from wsol_core.cli.app import app; app()")
STAGES = {
    "features@frozen": "stages.features frozen",
    "selective_search@selective-search": "stages.selective_search selective-search",
    "ddt_boxes": "stages.ddt_boxes", "train@foreground": "stages.train foreground",
    "maps@foreground": "stages.maps foreground",
    "score_proposals@detection-foreground": "stages.score_proposals detection foreground",
}  # fmt: skip
"""Six stages of the chain, in its order, with the name of their lock."""
KILLS = 20
LONGEST_WAIT = 2.0
"""Seconds between a stage's start and its kill, at the most."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DISK = 64 * 1024
"""Bytes of the full disk."""


def start(words: Sequence[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """A process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1", **environment}
    own.pop("WSOL_SCRATCH", None)
    return subprocess.Popen(
        words, cwd=folder, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(words: Sequence[str], folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and standard error."""
    process = start(words, folder, **environment)
    said = process.communicate()[1]
    return process.returncode, said


@contextmanager
def copies(names: Sequence[str]) -> Iterator[list[Path]]:
    """Clones of the last commit with the preset `tiny`, each with a cache of its own."""
    with tempfile.TemporaryDirectory(prefix="wsol-reliability-") as root:
        for name in names:
            folder = Path(root, name)
            subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder)], check=True)
            code, said = run([*WSOL, "use", "tiny"], folder)
            if code:
                raise SystemExit(said)
        yield [Path(root, name) for name in names]


def repro(target: str) -> list[str]:
    return [sys.executable, "-m", "dvc", "repro", target]


def wait_for(there: Callable[[], bool], process: "subprocess.Popen[str]") -> bool:
    """Whether it came before the process ended."""
    while process.poll() is None:
        if there():
            return True
        time.sleep(0.02)
    return False


def leftovers(folder: Path) -> list[Path]:
    """What is half-written; a lock file of a killed run that nobody holds stops none."""
    return [path for path in folder.rglob(".*.tmp") if ".dvc" not in path.parts]


def lock_of(folder: Path) -> dict[str, object]:
    """The stages of `dvc.lock`, of six stages and all before them."""
    return dict(yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"])


def kills() -> bool:
    """SIGKILL at random moments of six stages under DVC: the final lock is that of an undisturbed run."""
    rng = random.Random(0)
    with copies(["undisturbed", "killed"]) as (undisturbed, killed):
        for target in STAGES:
            code, said = run(repro(target), undisturbed)
            if code:
                raise SystemExit(said)
        done = 0
        for number, (target, name) in enumerate(STAGES.items()):
            wanted = done + KILLS // len(STAGES) + (number < KILLS % len(STAGES))
            words = repro(target)
            while done < wanted:
                if kill(words, name, killed, rng.uniform(0, LONGEST_WAIT)):
                    done += 1
                else:  # it came to its end
                    words = [*repro(target), "--force", "--single-item"]
            code, said = run(repro(target), killed)
            if code:
                print(f"kills: {target} does not run again: {said}")
                return False
        same, left = lock_of(undisturbed) == lock_of(killed), leftovers(killed)
    print(f"kills: {done} over {len(STAGES)} stages; same lock: {same}")
    print(f"kills: left behind: {[str(path) for path in left] or 'nothing'}")
    return same and not left


def kill(words: Sequence[str], name: str, folder: Path, after: float) -> bool:
    """Run a stage and kill all its processes some seconds after its start; whether it was killed in its work."""
    locks = f".{name}*.lock"
    for left in folder.glob(locks):
        left.unlink()
    process = start(words, folder)
    if wait_for(lambda: any(folder.glob(locks)), process):
        time.sleep(after)
    at_work = any(folder.glob(locks))
    if at_work:  # else DVC writes its lock, which is none of ours
        os.killpg(process.pid, signal.SIGKILL)
    said = process.communicate()[1]
    if process.returncode > 0:
        raise SystemExit(said)
    return at_work


def signals() -> bool:
    """Three signals to a training and to `wsol predict`: one line, exit code 1, nothing half-written."""
    survived = 0
    with copies(["stopped"]) as (folder,):
        code, said = run(repro("calibrate@foreground"), folder)
        if code:
            raise SystemExit(said)
        photographs = folder / "data/rendered/localization/images"
        targets = {
            "train": ([sys.executable, "-m", "stages.train", "foreground"], folder / ".stages.train foreground.lock"),
            "predict": (
                [*WSOL, "predict", str(photographs), "--method", "foreground", "--out", "out"],
                folder / "out/settings.json",
            ),
        }
        for name, (words, ready) in targets.items():
            for number in SIGNALS:
                shutil.rmtree(folder / "out", ignore_errors=True)
                process = start(words, folder)
                there = wait_for(ready.exists, process)
                time.sleep(0.3)
                process.send_signal(number)
                said = process.communicate()[1]
                lines = [line for line in said.splitlines() if line.strip() and "%|" not in line]
                own = [line for line in lines if not line.startswith("precision: ")]
                good = there and process.returncode == 1 and len(own) == 1 and own[0].startswith("error: stopped by")
                good = good and not leftovers(folder)
                survived += good
                if not good:
                    print(f"signals: {name}, {number.name}: exit code {process.returncode}, {own}, {leftovers(folder)}")
    print(f"signals: {survived} of {len(targets) * len(SIGNALS)} survived")
    return survived == len(targets) * len(SIGNALS)


WRITERS = {
    "map store": "from wsol_core.core.map_store import *\n"
    "with create(OUT, Kind.SCORE, 64, 64) as w:\n"
    " for n in range(64): w.append([f'{n:03d}'], [-1], rng.random((1, 64, 64)))",
    "HDF5 rows": "from wsol_core.core.hdf5 import new_file\n"
    "with new_file(OUT) as (f, s): f.create_dataset('rows', data=rng.random((64, 4096)))",
    "table": "import pandas as pd\nfrom wsol_core.core.files import *\n"
    "write_table(OUT, pd.DataFrame({'x': rng.random(100000)}))",
    "CSV": "import pandas as pd\nfrom wsol_core.core.files import *\n"
    "write_csv(OUT, pd.DataFrame({'x': rng.random(100000)}))",
    "JSON": "from wsol_core.core.files import *\nwrite_json(OUT, {'x': rng.random(100000).tolist()})",
    "network": "import torch\nfrom wsol_core.engine.checkpoints import *\n"
    "save_checkpoint(OUT, {'x': torch.rand(100000)}, {})",
    "checkpoint": "import torch\nfrom wsol_core.core.files import *\n"
    "with atomic_path(OUT) as t, Sink(t, 'w+') as s:\n torch.save({'x': torch.rand(100000)}, s); s.check()",
    "JPEG": "from wsol_core.visualization.pictures import *\n"
    "write_jpeg(OUT, rng.integers(0, 255, (900, 900, 3)).astype(np.uint8))",
    "folder of PNG": "from PIL import Image\nfrom wsol_core.core.files import *\n"
    "with atomic_path(OUT) as t:\n t.mkdir()\n"
    " for n in range(20): Image.fromarray(rng.integers(0, 255, (99, 99)).astype(np.uint8)).save(t / f'{n}.png')",
    "exported file": "from wsol_core.core.written_files import *\n"
    "with output_file(OUT) as t: t.write_bytes(rng.bytes(200000))",
    "exported folder": "from wsol_core.core.written_files import *\n"
    "with output_folder(OUT, 'w') as t:\n for n in range(50): (t / str(n)).write_bytes(rng.bytes(5000))",
    "predictions": "from wsol_core.core.written_files import *\nf = WrittenFiles(OUT, 'w')\n"
    "for n in range(50):\n with f.writing(str(n)) as t: t.write_bytes(rng.bytes(5000))",
}
WRITER = """
import sys
from pathlib import Path
import numpy as np
from wsol_core.core.errors import run_stage
OUT, rng = Path("out"), np.random.default_rng(0)
def main():
    exec({code!r}, globals())
run_stage(main)
"""


def disk() -> bool:
    """Twelve writers on a full disk: one line, exit code 1, and no file that is not whole."""
    if os.getuid():
        print("disk: needs root, to mount a small file system; passed over")
        return True
    survived = 0
    with tempfile.TemporaryDirectory(prefix="wsol-reliability-") as place:
        for name, code in WRITERS.items():
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place], check=True)
            try:
                words = [sys.executable, "-c", WRITER.format(code=code)]
                environment = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
                status, said = run(words, Path(place), **environment)
                left = leftovers(Path(place))
                whole = not (Path(place) / "out").is_file()
            finally:
                subprocess.run(["umount", place], check=True)
            good = status == 1 and said.startswith("error: ") and said.count("\n") == 1 and not left and whole
            survived += good
            if not good:
                print(f"disk: {name}: exit code {status}, {said.strip()[-400:]!r}, left {[each.name for each in left]}")
    print(f"disk: {survived} of {len(WRITERS)} writers survived")
    return survived == len(WRITERS)


def threads() -> bool:
    """A training with 1 and with 2 threads, each twice: the same bytes with the same number."""
    found: dict[str, set[bytes]] = {"1": set(), "2": set()}
    with copies(["threads"]) as (folder,):
        code, said = run(repro("train@foreground"), folder)
        if code:
            raise SystemExit(said)
        for number, weights in found.items():
            for _ in range(2):
                code, said = run([sys.executable, "-m", "stages.train", "foreground"], folder, OMP_NUM_THREADS=number)
                if code:
                    raise SystemExit(said)
                weights.add((folder / "data/models/foreground.safetensors").read_bytes())
    same = [len(weights) == 1 for weights in found.values()]
    print(
        f"threads: same bytes twice with 1 thread: {same[0]}, with 2: {same[1]}; with both: {found['1'] == found['2']}"
    )
    return all(same)


ATTACKS = {"kills": kills, "signals": signals, "disk": disk, "threads": threads}


def main() -> None:
    """Run the attacks that are named."""
    for number in SIGNALS:  # ignored behind `nohup` and `&`, which attacked runs would inherit
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    chosen = sys.argv[1:] or list(ATTACKS)
    survived = [ATTACKS[name]() for name in chosen]
    sys.exit(0 if all(survived) else 1)


if __name__ == "__main__":
    main()
