import textwrap
import time
from pathlib import Path

import pytest

from wsol_core.core import params
from wsol_core.core.errors import InputError
from wsol_core.core.texts import parse_yaml
from wsol_core.visualization.report import heat_map_stores


class Rates(params.Block):
    backbone: float
    head: float = 0.1


class Training(params.Block):
    epochs: int
    rates: Rates
    layers: tuple[str, ...] = ()


GOOD = """
preset: demo
seed: 3
training:
  first:
    epochs: 10
    rates: {backbone: '1e-05'}
    layers: [a, b]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write(GOOD)
    return tmp_path


def write(text: str, name: str = "params.yaml") -> None:
    Path(name).write_text(textwrap.dedent(text), encoding="utf-8")


def load() -> Training:
    return params.load(Training, "training.first")


def message() -> str:
    with pytest.raises(InputError) as caught:
        load()
    return str(caught.value)


def test_nested_block_loads_and_strings_become_numbers() -> None:
    block = load()
    assert block.rates.backbone == 1e-5
    assert block.layers == ("a", "b")
    assert (params.preset(), params.seed()) == ("demo", 3)


def test_block_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().__setattr__("epochs", 3)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("epochs: 10", "epoch: 10", ["'epochs'", "training.first.epoch:", "unknown key"]),
        ("layers:", "layer:", ["training.first.layer:", "'layers'"]),
        ("backbone:", "backbones:", ["training.first.rates.backbones:", "'backbone'"]),
        ("epochs: 10", "epochs: ten", ["training.first.epochs", "'ten'"]),
        ("epochs: 10", "epochs: 1.5", ["training.first.epochs", "1.5"]),
        ("    epochs: 10\n", "", ["training.first.epochs", "required"]),
        ("first:", "frist:", ["no 'training.first'", "'frist'"]),
    ],
)
def test_mistake_is_named_with_the_nearest_right_key(old: str, new: str, parts: list[str]) -> None:
    write(GOOD.replace(old, new))
    found = message()
    assert all(part in found for part in ["params.yaml", *parts]), found


@pytest.mark.parametrize("text", ["", "3", "[a]", "training: 3", "training: {first: }"])
def test_file_of_another_shape_is_one_error(text: str) -> None:
    write(text)
    assert "params.yaml" in message()


def test_missing_and_broken_files_are_one_error() -> None:
    write("a: [")
    assert "not valid YAML" in message()
    Path("params.yaml").unlink()
    assert "missing" in message()


@pytest.mark.parametrize("name", ["../x", "", "a b", ".hidden"])
def test_preset_is_a_plain_name(name: str) -> None:
    write(f"preset: '{name}'")
    with pytest.raises(InputError, match="preset"):
        params.preset()


@pytest.mark.parametrize("number", ["-1", "1.5", "true", "'1'"])
def test_seed_is_a_whole_number(number: str) -> None:
    write(f"seed: {number}")
    with pytest.raises(InputError, match="seed"):
        params.seed()


PIPELINE = """
stages:
  plain: {cmd: x, params: [training.first, other.yaml: [a]]}
  sibling: {cmd: x, params: [training.first.rates, training.firsts, preset]}
  bare: {cmd: x}
  many: {foreach: [first], do: {cmd: x, params: ["training.${item}"]}}
  table: {matrix: {m: [first]}, cmd: x, params: [training]}
"""


@pytest.mark.parametrize("stage", ["plain", "many@first", "table@first", "dvc.yaml:plain", "unheard"])
def test_declared_block_loads_in_a_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(PIPELINE, "dvc.yaml")
    monkeypatch.setenv("DVC_STAGE", stage)
    if stage == "unheard":
        assert "'training.first'" in message()
    else:
        assert load().epochs == 10


@pytest.mark.parametrize("stage", ["sibling", "bare", "dvc.yaml:bare"])
def test_undeclared_block_is_refused_in_a_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(PIPELINE, "dvc.yaml")
    monkeypatch.setenv("DVC_STAGE", stage)
    assert "without declaring it" in message()
    with pytest.raises(InputError, match="'seed'"):
        params.seed()


def test_names_are_those_of_a_dictionary_of_blocks() -> None:
    write("methods: {cam: {}, ddt: {constant: 1}}\nsegments: {}\n")
    assert params.names("methods") == ("cam", "ddt")
    assert params.names("segments") == ()


@pytest.mark.parametrize("value", ["[a]", "a", "1", ""])
def test_what_is_no_dictionary_has_no_names(value: str) -> None:
    write(f"detectors: {value}")
    with pytest.raises(InputError, match=r"detectors: .* are not blocks by NAME"):
        params.names("detectors")


def test_names_of_a_dictionary_stand_in_order() -> None:
    write("methods: {b: {x: 1}, a: {}}\nsegments: {}\n")
    assert params.names("methods") == ("b", "a")
    assert params.names("segments") == ()


@pytest.mark.parametrize("value", ["[a]", "a", "3", ""])
def test_names_of_another_form_are_refused(value: str) -> None:
    write(f"methods: {value}")
    with pytest.raises(InputError, match=r"methods: .* not blocks by NAME"):
        params.names("methods")


class Wide(params.Block):
    many: dict[str, Training]
    maybe: Rates | None = None


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("{many: {a: {epochs: 1, rates: {backbone: 1, haed: 2}}}}", ["wide.many.a.rates.haed: unknown key", "'head'"]),
        ("{many: {a: {epoch: 1}}}", ["wide.many.a.epoch: unknown key", "'epochs'"]),
        ("{many: {}, maybe: {backbone: 1, haed: 1}}", ["wide.maybe.haed: unknown key", "'head'"]),
        ("{many: {a: {epochs: 1}}}", ["wide.many.a.rates: required"]),
    ],
)
def test_mistakes_in_dictionaries_and_optional_blocks_are_named(content: str, parts: list[str]) -> None:
    write(f"wide: {content}")
    with pytest.raises(InputError) as caught:
        params.load(Wide, "wide")
    assert all(part in str(caught.value) for part in parts), caught.value


def test_heat_maps_are_lines_of_stores() -> None:
    write("heat_maps: {both: one two both, one: ''}\n")
    assert heat_map_stores() == {"both": ("one", "two", "both"), "one": ("one",)}
    write("heat_maps: {}\n")
    assert heat_map_stores() == {}


@pytest.mark.parametrize("value", ["[a]", "{a: [b]}", "{a: }", "a", "{1: b}"])
def test_heat_maps_of_another_form_are_refused(value: str) -> None:
    write(f"heat_maps: {value}")
    with pytest.raises(InputError, match=r"heat_maps: .* is not a list of NAME"):
        heat_map_stores()


def test_the_pipeline_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write("stages: {train: {params: [training, seed]}}", "dvc.yaml")
    monkeypatch.setenv("DVC_STAGE", "train")
    parsed: list[str] = []
    parse = parse_yaml

    def counted(text: str, name: object) -> object:
        parsed.append(text)
        return parse(text, name)

    monkeypatch.setattr(params, "parse_yaml", counted)
    params._parse.cache_clear()
    load()
    params.seed()
    load()
    assert parsed == [Path("dvc.yaml").read_text(), Path("params.yaml").read_text()]
    write(GOOD.replace("epochs: 10", "epochs: 11"))
    assert load().epochs == 11


class Whole(params.Block):
    threshold: float


@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf"])
def test_numbers_are_finite(text: str) -> None:
    write(f"whole: {{threshold: {text}}}")
    with pytest.raises(InputError, match=r"whole\.threshold: Input should be a finite number"):
        params.load(Whole, "whole")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize("text", [BOMB.encode(), b"[" * 5000, b"a: " * 5000, "whole: ü".encode("latin-1"), b"a: \x00"])
def test_what_is_no_sane_yaml_is_one_line_at_once(text: bytes) -> None:
    params.PARAMS.write_bytes(text)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"params\.yaml: (not valid YAML|not UTF-8|nested|its aliases)"):
        params.content("whole")
    assert time.monotonic() - start < 1
