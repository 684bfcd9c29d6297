"""README and docs: short, complete, without dead links, with figures that are those of the files and code that runs."""

import doctest
import inspect
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

from wsol_core.cli.dag import mermaid, read_graph
from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import typed
from wsol_core.configuration.presets import merge, preset_parameters
from wsol_core.core import boxes, regions
from wsol_core.engine.recipe import Recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PAPER_OF = {"ddt": "wsfl", "sec": "two_phase", "classifier": "psol", "norm": "baselines"}
"""Methods that stand on the page of another."""
FIGURE = re.compile(r"\| (\S+) \| `([^`]+\.(?:json|csv)): ([^`]+)` \|$", re.MULTILINE)
TAKEN_BACK = (
    "order of WSFL's Table 2 is the papers'",
    "on CUB, whose birds are compact, they win",
    "background images bring none, as",
    "masks bring six points",
    "FAM by nine points",
    "Longer training does not help",
)
"""Sentences of earlier pages that the figures do not carry."""


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of the headings, as Markdown makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def test_readme_is_a_page() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target}: no such file"
        if page != ROOT / "README.md":
            assert there.is_relative_to(DOCS), f"{target}: is no page of the site"
        if anchor:
            assert anchor in anchors(there), f"{target}: no such heading"


def test_pages_of_the_site_are_those_of_its_menu() -> None:
    menu = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(menu) == [page.relative_to(DOCS).as_posix() for page in PAGES[1:]]


def test_every_method_has_a_paper() -> None:
    folders = {path.parent.name for path in (ROOT / "wsol_core/methods").glob("*/__init__.py")}
    pages = {name: DOCS / f"papers/{PAPER_OF.get(name, name)}.md" for name in folders}
    assert [name for name, page in pages.items() if not page.exists()] == []
    assert [name for name, page in pages.items() if name not in page.read_text(encoding="utf-8")] == []


def test_every_module_has_a_reference_or_is_no_api() -> None:
    named = set(re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in DOCS.rglob("*.md")), re.MULTILINE))
    gone = [name for name in sorted(named) if not (ROOT / f"{name.replace('.', '/')}.py").exists()]
    assert gone == []
    methods = {
        f"wsol_core.methods.{path.parent.name}.{path.stem}" for path in (ROOT / "wsol_core/methods").glob("*/*.py")
    }
    assert {name for name in methods if not name.endswith("__init__")} <= named


def test_every_preset_is_named() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    presets = [path.stem for path in (ROOT / "presets").glob("*.yaml")]
    assert [name for name in presets if f"`{name}`" not in text and f"wsol use {name}" not in text] == []


def test_every_preset_with_results_has_a_page() -> None:
    folders = [path.name for path in (ROOT / "results").iterdir() if path.is_dir() and path.name != "ablations"]
    assert [name for name in folders if not (DOCS / f"results/{name}.md").exists()] == []


def figure(file: str, key: str) -> float:
    """A figure of the test split: of a metrics file, or the mean over seeds of the row that `key` names first."""
    path = ROOT / "results" / file
    if path.suffix == ".json":
        return float(json.loads(path.read_text(encoding="utf-8"))["test"][key])
    row, name = key.split()
    table = pd.read_csv(path)
    return float(table.loc[(table["row"] == row) & (table["split"] == "test"), name].mean())


@pytest.mark.parametrize("page", sorted((DOCS / "papers").glob("*.md")), ids=lambda page: page.stem)
def test_figures_of_papers_are_those_of_the_files(page: Path) -> None:
    wrong = [
        f"{file}: {key} is {found:.1f}, the page has {quoted}"
        for quoted, file, key in FIGURE.findall(page.read_text(encoding="utf-8"))
        if f"{(found := 100 * figure(file, key)):.1f}" != quoted
    ]
    assert wrong == []


def test_papers_quote_figures() -> None:
    found = {page.stem: len(FIGURE.findall(page.read_text())) for page in (DOCS / "papers").glob("*.md")}
    assert [name for name, count in found.items() if count < 2 and name != "index"] == []


def test_claims_taken_back_stay_so() -> None:
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in PAGES)
    assert [claim for claim in TAKEN_BACK if claim in text] == []


def test_diagram_of_the_readme_is_the_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    (tmp_path / "params.yaml").write_text(expand(preset_parameters("demo", ROOT)), encoding="utf-8")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = true\nanalytics = false\n")
    monkeypatch.chdir(tmp_path)
    drawn = re.search(r"```mermaid\n(.*?)\n```", README, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == mermaid(read_graph()), "README: put the output of `wsol use demo; wsol dag --mermaid` there"


@pytest.mark.parametrize("module", [boxes, regions], ids=lambda module: module.__name__)
def test_worked_examples(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 5
    assert found.failed == 0
    public = [
        name for name, each in vars(module).items() if inspect.isfunction(each) and each.__module__ == module.__name__
    ]
    assert [name for name in public if name[0] != "_" and ">>>" not in (getattr(module, name).__doc__ or "")] == []


def test_code_of_the_guide_to_a_new_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two modules define a whole recipe."""
    text = (DOCS / "development/adding-a-method.md").read_text(encoding="utf-8")
    network, recipe = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    modules = {name: ModuleType(f"wsol_core.methods.mine{name}") for name in ("", ".network", ".recipe")}
    for module in modules.values():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(network, vars(modules[".network"]))
    exec(recipe, vars(modules[".recipe"]))
    found = modules[".recipe"].RECIPES["mine"]
    assert isinstance(found, Recipe)
    entry = {"method": "mine", "network": "mine", "training": {"epochs": 1, "lr_backbone": 0.1, "lr_head": 0.1}}
    assert found.build(found.params.model_validate(entry), 2).state_dict()["head.weight"].shape[0] == 1


def test_entries_of_the_guide_are_parameters() -> None:
    """The network that the guide adds to the demo."""
    text = (DOCS / "guide/experiments.md").read_text(encoding="utf-8")
    (entries,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    demo = yaml.safe_load((ROOT / "presets/demo.yaml").read_text(encoding="utf-8"))
    parameters = typed(merge(demo, yaml.safe_load(entries)) | {"preset": "demo"})
    assert "segmentation-ddt" in parameters.networks
