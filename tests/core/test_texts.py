"""Text files that users bring, and what an enemy may put into them."""

import time
from pathlib import Path

import pytest

from wsol_core.core.errors import InputError
from wsol_core.core.texts import parse_yaml, read_json, read_text, read_yaml


def aliases(levels: int, line: str) -> str:
    """Lines in which each stands for nine of the line before."""
    first = "a0: &a0 {x: 1}\n"
    return first + "".join(line.format(n, ", ".join([f"*a{n - 1}"] * 9)) for n in range(1, levels + 1))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_with_and_without_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("größe\n", encoding=encoding)
    assert read_text(tmp_path / "a.txt") == "größe\n"


def test_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"^list: not UTF-8 \(byte 2\); save it as UTF-8$"):
        read_text(tmp_path / "a.txt", "list")


@pytest.mark.parametrize("name", ["none", ".", "a\0b"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="missing"):
        read_text(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1%s]" % ("0" * 5000), "not JSON"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


def test_json_with_whole_surrogate_pairs_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["\\ud83d\\ude00", "\\\\ud800"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f600", "\\ud800"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested more than 500 levels"),
        ("- " * 100_000, "nested more than 500 levels"),
        ("{a: " * 100_000, "nested more than 500 levels"),
        (aliases(12, "a{0}: &a{0} [{1}]\n"), "aliases stand for more than 1000000 values"),
        (aliases(12, "a{0}: &a{0} {{<<: [{1}]}}\n"), "aliases stand for more than 1000000 values"),
        ("a: &a [*a]", "aliases stand for"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!float ''", "not valid YAML"),
        ("a: *b", "not valid YAML"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("a: [", "not valid YAML"),
    ],
)
def test_yaml_that_is_refused_at_once(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=message):
        parse_yaml(text, "a.yaml")
    assert time.process_time() - start < 1


def test_yaml_that_is_read(tmp_path: Path) -> None:
    long = ", ".join(["[1]"] * 600)
    (tmp_path / "a.yaml").write_text(f"base: &base {{a: 1}}\nother: {{<<: *base, b: 2}}\nlist: [{long}]\n")
    content = read_yaml(tmp_path / "a.yaml")
    assert content["other"] == {"a": 1, "b": 2}
    assert content["list"] == [[1]] * 600
    deep = parse_yaml("a: &a 1\nb: " + "[" * 499 + "*a" + "]" * 499, "a.yaml")["b"]
    for _ in range(499):
        (deep,) = deep
    assert deep == 1
    merged = "a: &a {x: 1}\nb: " + "{<<: " * 498 + "*a" + "}" * 498
    assert parse_yaml(merged, "a.yaml")["b"] == {"x": 1}
    assert parse_yaml("", "a.yaml") is None
