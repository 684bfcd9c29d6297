import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wsol_core.configuration.presets import apply_preset, preset_text, use
from wsol_core.core.errors import InputError
from wsol_core.data.roots import find_root

ROOT = Path(__file__).parents[1]
PARAMS = """\
# The demo.
preset: demo  # its name
seed: 0

# where images come from
data:
  # the first set
  localization:
    name: demo
    reader: coco  # its layout
    # a folder of the project
    source: data/rendered/localization  # or a list

  # the second set
  detection: {name: demo, source: data/rendered/detection}  # on one line

foreground:
  epochs: 10  # passes
  lr: 1e-3  # at the peak
  layers:
    - a
    - b  # deep
  # the loss
  loss: {kind: bce, weight: 1}

# pictures
report:
  images: 3
"""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def diff(old: str, new: str) -> tuple[set[str], set[str]]:
    return set(old.splitlines()) - set(new.splitlines()), set(new.splitlines()) - set(old.splitlines())


def test_values_change_and_everything_else_stays() -> None:
    patch = {"foreground": {"epochs": 2, "layers": ["c"], "loss": {"weight": 2}}, "report": {"images": 1}}
    gone = [
        "  epochs: 10  # passes",
        "  layers:",
        "    - a",
        "    - b  # deep",
        "  loss: {kind: bce, weight: 1}",
        "  images: 3",
    ]
    come = ["  epochs: 2  # passes", "  layers: [c]  # deep", "  loss: {kind: bce, weight: 2}", "  images: 1"]
    assert diff(PARAMS, apply_preset(PARAMS, patch)) == (set(gone), set(come))


def test_deleted_key_takes_its_own_comments_along_and_a_new_one_stands_beside_its_siblings() -> None:
    patch = {"data": {"localization": {"source": None, "splits": {"test": "a.json"}}}}
    lines = apply_preset(PARAMS, patch).splitlines()
    at = lines.index("    reader: coco  # its layout")
    assert lines[at + 1 : at + 4] == ["    splits: {test: a.json}", "", "  # the second set"]


@pytest.mark.parametrize(
    ("patch", "parts"),
    [
        ({"foregrund": {}}, ["'foregrund'", "'foreground'"]),
        ({"foreground": {"epoch": 3}}, ["'foreground.epoch'", "'epochs'"]),
        ({"foreground": {"epoch": None}}, ["'foreground.epoch'", "'epochs'"]),
        ({"foreground": {"loss": {"weigth": 3}}}, ["'foreground.loss.weigth'", "'weight'"]),
        ({"data": {"localisation": {"name": "x"}}}, ["'data.localisation'", "'localization'"]),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(patch: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError, match="unknown key") as caught:
        apply_preset(PARAMS, patch)
    assert all(part in str(caught.value) for part in parts)


NETWORKS = """\
cam:  # activation maps
  # fused
  mff:
    levels: [-1]  # deep
    training: {epochs: 1}
psol: {}  # none
calibrate:
  constants: {}
gaussian: {overrides: {cam: {foreground: 0.5}}}
seed: 0
"""


@pytest.mark.parametrize(
    "patch",
    [
        {"cam": {"cam": {"levels": [-2], "training": {"epochs": 2, "steps": [1, [2]]}}, "mff": {"levels": [-3]}}},
        {"cam": {"mff": None}},
        {"cam": {"mff": None, "cam": {"levels": [1]}}, "psol": {"a b": {"epochs": 1}}},
        {"psol": {"psol": {"training": {"epochs": 3}}}, "calibrate": {"constants": {"mff": 0.2}}},
        {"gaussian": {"overrides": {"cam": {"background": 0.1}, "ddt": {"foreground": 0.2}}}},
        {"gaussian": {"overrides": {"cam": None}}},
        {"cam": {"absent": None}, "psol": None, "calibrate": None},
        {"cam": {"mff": {"levels": None, "training": None}}},
    ],
)
def test_networks_are_added_and_deleted_by_name(patch: dict[str, Any]) -> None:
    assert yaml.safe_load(apply_preset(NETWORKS, patch)) == merge(yaml.safe_load(NETWORKS), patch)


def test_a_new_network_stands_in_lines_and_an_emptied_block_is_empty_braces() -> None:
    added = apply_preset(NETWORKS, {"cam": {"cam": {"levels": [-2], "training": {"epochs": 2}}}}).splitlines()
    assert added[4:9] == [
        "    training: {epochs: 1}",
        "  cam:",
        "    levels: [-2]",
        "    training: {epochs: 2}",
        "psol: {}  # none",
    ]
    assert apply_preset(NETWORKS, {"cam": {"mff": None}}).splitlines()[:2] == ["cam: {}", "psol: {}  # none"]


@pytest.mark.parametrize(
    ("patch", "parts"),
    [
        ({"cam": {"mff": {"level": 1}}}, ["'cam.mff.level'", "'levels'"]),
        ({"cam": {"mff": {"training": {"epoch": 1}}}}, ["'cam.mff.training.epoch'", "'epochs'"]),
        ({"calibrate": {"constant": {}}}, ["'calibrate.constant'", "'constants'"]),
    ],
)
def test_inside_a_known_network_keys_must_be_known(patch: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError, match="unknown key") as caught:
        apply_preset(NETWORKS, patch)
    assert all(part in str(caught.value) for part in parts)


scalars = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text("ab:#'\" -{},\n", max_size=6))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
names = st.sampled_from(["k", "name", "reader", "source", "a b"])
open_patches = st.dictionaries(
    names, st.one_of(st.none(), values, st.dictionaries(names, values, max_size=2)), max_size=4
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.one_of(st.none(), values),
        "data": st.fixed_dictionaries({}, optional={"localization": open_patches, "detection": open_patches}),
        "foreground": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {},
                optional={
                    "epochs": st.one_of(st.none(), values),
                    "lr": st.one_of(st.none(), values),
                    "layers": st.one_of(st.none(), values, st.dictionaries(names, values, max_size=2)),
                    "loss": st.one_of(
                        st.none(), values, st.fixed_dictionaries({"kind": st.none(), "weight": st.none()})
                    ),
                },
            ),
        ),
        "report": st.sampled_from([None, {"images": None}, {"images": 4}, {}, 3]),
    },
)


@given(patches)
def test_merge_is_that_of_the_rfc(patch: dict[str, Any]) -> None:
    assert yaml.safe_load(apply_preset(PARAMS, patch)) == merge(yaml.safe_load(PARAMS), patch)


def test_nothing_to_change_changes_nothing() -> None:
    assert apply_preset(PARAMS, {}) == PARAMS
    assert apply_preset(PARAMS, {"data": {"localization": {}}}) == PARAMS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WSOL_ROOT_CUB", raising=False)
    (tmp_path / "presets").mkdir()
    write(tmp_path, "params.yaml", PARAMS)
    write(tmp_path, "presets/demo.yaml", PARAMS)
    write(tmp_path, "presets/tiny.yaml", "foreground: {epochs: 1}\n")
    outside = "data: {localization: {name: cub, reader: cub, source: data/localization/files.parquet}}\nseed: 7\n"
    write(tmp_path, "presets/cub.yaml", outside)
    return tmp_path


def write(project: Path, name: str, text: str) -> None:
    (project / name).write_text(textwrap.dedent(text), encoding="utf-8")


def read(project: Path) -> str:
    return (project / "params.yaml").read_text(encoding="utf-8")


def test_what_was_in_use_before_leaves_no_trace(project: Path) -> None:
    use("tiny", project=project)
    tiny = read(project)
    use("cub", project, project=project)
    use("tiny", project=project)
    assert read(project) == tiny
    assert yaml.safe_load(tiny)["preset"] == "tiny"
    use("demo", project=project)
    assert read(project) == PARAMS


def test_edited_values_are_told(project: Path) -> None:
    use("tiny", project=project)
    write(project, "params.yaml", read(project).replace("lr: 1e-3", "lr: 0.5").replace("  images: 3", "  extra: 4"))
    assert use("demo", project=project) == [
        "foreground.lr: 0.5 (preset: 1e-3)",
        "report.images: deleted (preset: 3)",
        "report.extra: 4 (preset: none)",
    ]
    assert use("tiny", project=project) == []


@pytest.mark.parametrize("text", ["a: [", "", "preset: gone\n", "3\n", "- a\n"])
def test_demo_returns_from_a_broken_file(project: Path, text: str) -> None:
    write(project, "params.yaml", text)
    assert use("demo", project=project) == ["all of params.yaml, which is not one of the presets' files"]
    assert read(project) == PARAMS


def test_missing_file_is_written(project: Path) -> None:
    (project / "params.yaml").unlink()
    assert use("demo", project=project) == []
    assert read(project) == PARAMS


def test_unknown_preset_is_named_with_the_nearest(project: Path) -> None:
    with pytest.raises(InputError, match=r"'tinny'; did you mean 'tiny'\?.*cub, demo, tiny"):
        use("tinny", project=project)


@pytest.mark.parametrize("text", ["foreground: {epoch: 1}", "a: [", "- a", "3"])
def test_bad_preset_is_named_and_changes_nothing(project: Path, text: str) -> None:
    write(project, "presets/tiny.yaml", text)
    with pytest.raises(InputError, match=r"presets/tiny\.yaml"):
        use("tiny", project=project)
    assert read(project) == PARAMS


def test_root_outside_must_be_known(project: Path) -> None:
    with pytest.raises(InputError, match="wsol use cub --set localization --root PATH"):
        use("cub", project=project)
    assert read(project) == PARAMS
    use("cub", project, project=project)
    assert find_root("cub") == project.resolve()
    use("demo", project=project)
    use("cub", project=project)
    assert yaml.safe_load(read(project))["seed"] == 7


@pytest.mark.parametrize(("preset", "data_set"), [("demo", "localization"), ("cub", "detection"), ("cub", "nowhere")])
def test_root_of_a_set_inside_the_project_is_refused(project: Path, preset: str, data_set: str) -> None:
    with pytest.raises(InputError, match="leave out --root"):
        use(preset, project, data_set, project=project)


# The project's own presets


def test_demo_is_what_params_yaml_was_committed_as() -> None:
    """Git's index is asked: what a user makes of the working file is no fault."""
    shown = [
        subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, check=False).stdout
        for name in ("params.yaml", "presets/demo.yaml")
    ]
    if not shown[0]:
        pytest.skip("not a Git checkout with params.yaml")
    assert shown[0] == shown[1]


PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_fits_the_demo(name: str) -> None:
    assert yaml.safe_load(preset_text(name, ROOT))["preset"] == name


NETWORK_BLOCKS = ("cam", "fam", "psol", "oracle", "transferred", "bc", "backprop", "bcct", "bcct_joint")


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_each_network_of_a_preset_is_of_use(name: str) -> None:
    """No preset trains what it does not show: each network is a method, or makes the labels or masks of one."""
    params = yaml.safe_load(preset_text(name, ROOT))
    sources = params["segmentation"]["sources"]
    used = {*params["methods"], *sources, *(block["masks"] for block in params["bcct"].values())}
    assert {network for block in NETWORK_BLOCKS for network in params[block]} <= used
    assert {f"segmentation-{source}" for source in sources} <= set(params["methods"])
    measured = {store for stores in params["heat_maps"].values() for store in stores.split()}
    assert {network for block in ("phase_one", "phase_two", "two_phase") for network in params[block]} <= measured
    assert set(params["sec"]) <= set(params["segments"])
    scored = set(params["class_scores"])
    assert (
        set(params["classifier"])
        <= scored
        <= {*params["classifier"], *params["fam"], *params["bcct"], *params["bcct_joint"]}
    )


def test_a_folder_of_ones_own_needs_no_classes() -> None:
    """With one class nothing can be learnt from labels."""
    params = yaml.safe_load(preset_text("folder", ROOT))
    assert params["methods"] == ["ddt", "foreground", "segmentation-foreground"]
    assert params["cam"] == params["classifier"] == {}
