"""Files damaged by chance, the same for a seed: what a disk, a bad download or an enemy may leave of them."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from wsol_core.core.errors import InputError

PIECES = (
    b"\xff", b"\x00", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"9" * 5000, b"[", b"{", b"]", b"}", b",", b'"',
    b"'", b":", b"\\ud800", b"null", b"true", b"<", b">", b"&a;", b"../", b"/", b"\n", b"\t", b" ", b"\xef\xbb\xbf",
    b"\xf0\x9f\x92\xa9", b"!!", b"*a", b"&a ", b"%", b"[" * 2000, b"\x80\x04\x95", b"0", b"0x7f", b"\r",
)  # fmt: skip


def mutated(content: bytes, seed: int) -> bytes:
    """`content` after one to four changes: bytes flipped, put in, cut out, doubled, or cut off."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        stretch = chance.choice((1, 1, 2, 8, 64))
        kind = chance.randrange(6)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place:place] = chance.choice(PIECES)
        elif kind == 2:
            del changed[place : place + stretch]
        elif kind == 3:
            changed[place:place] = changed[place : place + stretch]
        elif kind == 4:
            changed[place : place + stretch] = chance.choice(PIECES)
        elif chance.random() < 0.3:
            del changed[place:]
        else:
            changed[place : place + stretch] = chance.randbytes(stretch)
    return bytes(changed)


def survive(path: Path, use: Callable[[], object], seeds: range) -> None:
    """Use a file after each of many changes: it is read, or refused by an `InputError`.

    `use` checks what it reads, so that a wrong result fails.
    """
    whole = path.read_bytes()
    try:
        for seed in seeds:
            path.write_bytes(mutated(whole, seed))
            with suppress(InputError):
                use()
    except Exception as error:
        pytest.fail(f"{path.name}, seed {seed}: {type(error).__name__}: {error}")
    finally:
        path.write_bytes(whole)


def few_and_many() -> list[object]:
    """Ten seeds in `make test`, a hundred in `make slow`."""
    return [
        pytest.param(range(10), id="10"),
        pytest.param(range(10, 110), id="100", marks=pytest.mark.slow),
    ]
