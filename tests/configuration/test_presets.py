import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from hypothesis import given
from hypothesis import strategies as st

from wsol_core.configuration.expand import expand
from wsol_core.configuration.parameters import Parameters, read_parameters, typed
from wsol_core.configuration.presets import merge, preset_parameters, use
from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.data.roots import find_root, registry
from wsol_core.methods.bcct.masks import MaskParams
from wsol_core.methods.spol.gaussian import GaussianParams

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
DEMO = yaml.safe_load((ROOT / "presets/demo.yaml").read_text(encoding="utf-8"))


def rfc(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = rfc(result.get(name), value)
    return result


names = st.sampled_from(["a", "b", "c", "a b"])
values = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2)),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
patches = st.recursive(
    st.one_of(st.none(), st.integers(), st.lists(st.integers(), max_size=2)),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(names, values, max_size=4), st.dictionaries(names, patches, max_size=4))
def test_merge_is_that_of_the_rfc(base: dict[str, Any], patch: dict[str, Any]) -> None:
    before = repr(base)
    assert merge(base, patch) == rfc(base, patch)
    assert repr(base) == before


def demo(patch: dict[str, Any]) -> Parameters:
    return typed(merge(DEMO, patch | {"preset": "demo"}))


@pytest.mark.parametrize(
    ("patch", "parts"),
    [
        ({"netwroks": {}}, ["netwroks", "unknown key", "'networks'"]),
        ({"networks": {"cam": {"level": -1}}}, ["networks.cam.level:", "unknown key", "'levels'"]),
        ({"networks": {"cam": {"training": {"epoch": 1}}}}, ["networks.cam.training.epoch:", "'epochs'"]),
        ({"networks": {"cam": {"training": {"optimizer": {"moment": 1}}}}}, ["optimizer.moment:", "'momentum'"]),
        ({"networks": {"cam": {"training": {"epochs": "two"}}}}, ["networks.cam.training.epochs:", "'two'"]),
        ({"networks": {"cam": {"method": "spul"}}}, ["networks.cam.method:", "'spol'"]),
        ({"networks": {"cam": {"network": "kam"}}}, ["networks.cam.method:", "cam, cam-released, segmentation"]),
        ({"networks": {"new": {"training": {"epochs": 1}}}}, ["networks.new:", "names no method"]),
        ({"networks": {"a.b": DEMO["networks"]["cam"]}}, ["networks.a.b", "letters, digits"]),
        ({"gaussian_labels": {"gaussian-cam": {"foregrund": 1}}}, ["gaussian-cam.foregrund:", "'foreground'"]),
        ({"gaussian_labels": {"other": {"form": "whole"}}}, ["gaussian_labels.other.maps: required"]),
        ({"detectors": {"oicr": {"network": {"filter": {"exemt": []}}}}}, ["filter.exemt", "'exempt'"]),
        ({"detectors": {"oicr": {"sees": "data/x.h5"}}}, ["detectors.oicr.sees:", "data/x.h5"]),
        ({"methods": {"cam": {"calibrated_by": "guess"}}}, ["methods.cam.calibrated_by:", "'guess'"]),
        ({"data": {"localisation": DEMO["data"]["localization"]}}, ["data.localisation", "'localization'"]),
        ({"data": {"detection": None}}, ["no data set 'detection' in data"]),
        ({"class_scores": ["classifier", "classifier"]}, ["class_scores:", "'classifier' twice"]),
        ({"transfer": {"kam": {"set": "detection", "method": "spol"}}}, ["transfer.kam", "'cam'"]),
        ({"transfer": {"foreground": {"method": "fam"}}}, ["transfer.foreground", "wsfl"]),
        ({"transfer": {"foreground": {"set": "localization"}}}, ["transfer.foreground", "the set another"]),
        ({"seed": -1}, ["seed:", "-1"]),
    ],
)
def test_mistakes_are_a_line_that_names_the_key(patch: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        demo(patch)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_a_preset_is_a_plain_name() -> None:
    with pytest.raises(InputError, match="preset:"):
        typed(DEMO | {"preset": "../x"})


def test_files_that_hold_no_parameters_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(InputError, match="missing"):
        read_parameters(path)
    for text, message in [
        ("a: [", "not valid YAML"),
        ("- a", "not blocks"),
        ("", "not blocks"),
        ("seed: 1", "required"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_parameters(path)


def test_fields_that_play_no_part_name_the_index() -> None:
    found = demo({})
    index = "data/localization/index.parquet"
    assert found.networks["cam"].learns_from == found.networks["cam"].background == index
    assert found.networks["foreground"].learns_from == "data/localization/targets/pseudo_masks.h5"
    assert [type(found.networks[name]).__name__ for name in ("cam", "classifier")] == ["CamParams", "ClassifierParams"]


# Expansion


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_expands_and_reads_back(name: str, tmp_path: Path) -> None:
    parameters = preset_parameters(name, ROOT)
    text = expand(parameters)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert parameters.preset == name
    assert read_parameters(path) == parameters
    assert expand(read_parameters(path)) == text
    assert max(map(len, text.splitlines())) <= 140
    assert yaml.safe_load(text) == with_effect(parameters)


def with_effect(value: Any, idle: frozenset[str] = frozenset()) -> Any:
    """A value as YAML holds it, without the fields that its block, or one around it, calls idle."""
    if isinstance(value, Block):
        idle |= value.idle_fields()
        value = {key: getattr(value, key) for key in type(value).model_fields if key not in idle}
    if isinstance(value, dict):
        below = {key: frozenset(name.split(".", 1)[1] for name in idle if name.startswith(f"{key}.")) for key in value}
        return {key: with_effect(each, below[key]) for key, each in value.items()}
    return [with_effect(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", PRESETS)
def test_every_path_of_a_network_stands_in_the_file(name: str) -> None:
    """DVC interpolates them; its `-S` refuses a key that the file does not hold."""
    interpolated = {"method", "set", "sees", "learns_from", "starts_from", "background"}
    content = yaml.safe_load(expand(preset_parameters(name, ROOT)))
    assert all(interpolated <= set(entry) for entry in content["networks"].values())


def test_what_a_feature_store_decides_does_not_stand_in_a_networks_entry() -> None:
    networks = yaml.safe_load(expand(preset_parameters("tiny-all", ROOT)))["networks"]
    decided = {"lr_backbone", "image_side", "resize", "precision"}
    assert networks["foreground"]["sees"] == "data/localization/features/frozen.h5"
    assert networks["fam"]["sees"] == "data/localization/index.parquet"
    assert not {"backbone", "output_stride", "features"} & set(networks["foreground"])
    assert not decided & set(networks["foreground"]["training"])
    assert "features" not in networks["fam"]
    assert "backbone" in networks["fam"]
    assert decided <= set(networks["fam"]["training"])


def test_a_comment_stands_once_in_each_part() -> None:
    text = expand(demo({}))
    assert text.count("  # passes over the training images; 0 leaves") == 2  # networks, detectors
    assert text.count("  # box threshold without ground truth") == 1
    lines = text.splitlines()
    cam = lines.index("  cam:")
    assert lines[cam : cam + 3] == ["  cam:", "    method: spol", "    network: cam"]
    assert "    contours: {low: 0.1, high: 0.5, min_area: 20, spread: 0.1}" in lines


def test_one_leaf_of_each_entry_can_be_set(tmp_path: Path) -> None:
    parameters = preset_parameters("tiny-all", ROOT)
    path = tmp_path / "params.yaml"
    path.write_text(expand(parameters), encoding="utf-8")
    overrides = [f"networks.{name}.training.optimizer.momentum=0.5" for name in parameters.networks]
    overrides += [f"methods.{name}.calibrated_by=otsu" for name in parameters.methods]
    overrides += [f"detectors.{name}.network.training.epochs=7" for name in parameters.detectors]
    overrides += [f"gaussian_labels.{name}.contours.spread=0.2" for name in parameters.gaussian_labels]
    overrides += [
        "gradient_masks.masks-bcct.delta=0.7",
        "cues.cues-sec.background=0.2",
        "segments.sec.crf.iterations=3",
    ]
    overrides += ["oracle_masks.oracle-lr.per_class=2", "proposal_features.lite0.cells=5", "demo.detection.side=80"]
    overrides += ["networks.phase-two.saliency=-2", "networks.sec.losses=[seed]", "ddt.otsu=0.5", "seed=3"]
    overrides += [f"features.{name}.backbone.weights=none" for name in parameters.features]
    overrides += [
        "data.localization.classes=[bird,mammal]",
        "report.sets=[detection]",
        "votes.two-phase.first=phase-two",
    ]
    apply_overrides(path, overrides)
    found = read_parameters(path)
    assert {entry.training.optimizer.momentum for entry in found.networks.values()} == {0.5}
    assert {entry.calibrated_by for entry in found.methods.values()} == {"otsu"}
    assert {entry.model_dump()["network"]["training"]["epochs"] for entry in found.detectors.values()} == {7}
    assert {entry.contours.spread for entry in found.gaussian_labels.values()} == {0.2}
    assert {entry.backbone.weights for entry in found.features.values()} == {"none"}
    assert (found.gradient_masks["masks-bcct"].delta, found.ddt.otsu) == (0.7, 0.5)
    assert (found.seed, found.demo.detection.side, found.report.sets) == (3, 80, ("detection",))
    assert found.segments["sec"].crf is not None
    assert found.segments["sec"].crf.iterations == 3
    assert "# mirror half of the images" in path.read_text(encoding="utf-8")


# wsol use


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WSOL_ROOT_CUB", raising=False)
    (tmp_path / "presets").mkdir()
    write(tmp_path, "presets/demo.yaml", (ROOT / "presets/demo.yaml").read_text(encoding="utf-8"))
    write(tmp_path, "presets/short.yaml", "networks: {foreground: {training: {epochs: 1}}}\n")
    outside = "data: {localization: {name: cub, reader: cub, source: data/localization/files.parquet}}\nseed: 7\n"
    write(tmp_path, "presets/cub.yaml", outside)
    use("demo", project=tmp_path)
    return tmp_path


def write(project: Path, name: str, text: str) -> None:
    (project / name).write_text(textwrap.dedent(text), encoding="utf-8")


def read(project: Path) -> str:
    return (project / "params.yaml").read_text(encoding="utf-8")


def test_what_was_in_use_before_leaves_no_trace(project: Path) -> None:
    first = read(project)
    use("short", project=project)
    short = read(project)
    use("cub", project, project=project)
    use("short", project=project)
    assert read(project) == short
    assert read_parameters(project / "params.yaml").networks["foreground"].training.epochs == 1
    use("demo", project=project)
    assert read(project) == first


def test_edited_values_are_told(project: Path) -> None:
    use("short", project=project)
    edited = read(project).replace("flip: false", "flip: true", 1).replace("  images: 8", "  extra: 4", 1)
    write(project, "params.yaml", edited)
    assert use("demo", project=project) == [
        "dropped inference.flip: True (preset: False)",
        "dropped report.images: deleted (preset: 8)",
        "dropped report.extra: 4 (preset: none)",
    ]
    assert use("short", project=project) == []


@pytest.mark.parametrize("text", ["a: [", "", "preset: gone\n", "3\n", "- a\n"])
def test_demo_returns_from_a_broken_file(project: Path, text: str) -> None:
    whole = read(project)
    write(project, "params.yaml", text)
    assert use("demo", project=project) == ["dropped all of params.yaml, which is not one of the presets' files"]
    assert read(project) == whole


def test_a_file_of_another_version_is_told_in_a_line(project: Path) -> None:
    write(project, "params.yaml", "preset: demo\nforeground: {level: 1}\n")
    (line,) = use("demo", project=project)
    assert "another version" in line
    assert "'foreground'" in line


def test_missing_file_is_written(project: Path) -> None:
    whole = read(project)
    (project / "params.yaml").unlink()
    assert use("demo", project=project) == []
    assert read(project) == whole


def test_unknown_preset_is_named_with_the_nearest(project: Path) -> None:
    with pytest.raises(InputError, match=r"'shorrt'; did you mean 'short'\?.*cub, demo, short"):
        use("shorrt", project=project)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("networks: {foreground: {epoch: 1}}", "networks.foreground.epoch: unknown key"),
        ("networks: {cma: null}", "networks.cma: null, but demo has no such key; did you mean 'cam'"),
        ("a: [", "not valid YAML"),
        ("- a", "not a part of the parameters"),
        ("3", "not a part of the parameters"),
    ],
)
def test_bad_preset_is_named_and_changes_nothing(project: Path, text: str, message: str) -> None:
    whole = read(project)
    write(project, "presets/short.yaml", text)
    with pytest.raises(InputError, match=r"presets/short\.yaml") as caught:
        use("short", project=project)
    assert message in str(caught.value)
    assert read(project) == whole


def test_root_outside_must_be_known(project: Path) -> None:
    whole = read(project)
    with pytest.raises(InputError, match="wsol use cub --set localization --root PATH"):
        use("cub", project=project)
    assert read(project) == whole
    assert use("cub", project, project=project) == [f"the root of data set 'cub' is remembered in {registry()}"]
    assert find_root("cub") == project.resolve()
    use("demo", project=project)
    assert use("cub", project=project) == []
    assert read_parameters(project / "params.yaml").seed == 7


@pytest.mark.parametrize(("preset", "data_set"), [("demo", "localization"), ("cub", "detection"), ("cub", "nowhere")])
def test_root_of_a_set_inside_the_project_is_refused(project: Path, preset: str, data_set: str) -> None:
    with pytest.raises(InputError, match="leave out --root"):
        use(preset, project, data_set, project=project)


LOCK = "schema: '2.0'\nstages:\n  a: {cmd: a, outs: [{path: data/a, hash: md5, md5: x}]}\n  b@c: {cmd: b}\n"


def test_another_preset_drops_what_the_last_left_in_dvc_lock(project: Path) -> None:
    write(project, "dvc.lock", LOCK)
    assert use("demo", project=project) == []
    assert (project / "dvc.lock").read_text(encoding="utf-8") == LOCK
    (line,) = use("short", project=project)
    assert line == (
        "dvc.lock: 2 stages of preset 'demo' dropped; outputs stay in the cache, "
        "`git checkout dvc.lock` brings them back"
    )
    assert yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8")) == {"schema": "2.0", "stages": {}}
    assert use("demo", project=project) == []


def test_dvc_takes_an_emptied_lock(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.chdir(project)
    write(project, "dvc.yaml", "stages: {a: {cmd: echo > a, outs: [a]}}\n")
    write(project, "dvc.lock", LOCK)
    use("short", project=project)
    with Repo.init(str(project), no_scm=True) as repo:
        assert [stage.name for stage in repo.reproduce()] == ["a"]
        assert repo.status() == {}


# The project's own presets


def test_demo_is_what_params_yaml_was_committed_as() -> None:
    """Git's index is asked: what a user makes of the working file is no fault."""
    shown = subprocess.run(["git", "show", ":params.yaml"], cwd=ROOT, capture_output=True, check=False).stdout
    if not shown:
        pytest.skip("not a Git checkout with params.yaml")
    assert shown.decode() == expand(preset_parameters("demo", ROOT))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny-all"])
def test_each_network_of_a_preset_is_of_use(name: str) -> None:
    """No preset trains what it does not show: each network is a method, or makes the labels or masks of one."""
    params = preset_parameters(name, ROOT)
    targets: dict[str, GaussianParams | MaskParams] = {**params.gaussian_labels, **params.gradient_masks}
    used = {*params.methods, *params.class_scores, *params.segments, *params.objectness.methods}
    used |= {block.maps for block in targets.values()}
    used |= {store for stores in params.heat_maps.values() for store in stores.split()}
    assert set(params.networks) <= used
    learnt = {Path(entry.learns_from).stem for entry in params.networks.values()}
    assert {*targets, *params.cues, *params.oracle_masks} <= learnt
    seen = {params.ddt.sees, params.ddt.second, *(entry.sees for entry in params.networks.values())}
    seen |= {entry.sees for entry in params.proposal_features.values()}
    assert {f"data/{entry.set}/features/{name}.h5" for name, entry in params.features.items()} <= seen
    described = {f"data/detection/proposal_features/{name}.h5" for name in params.proposal_features}
    assert described <= {entry.sees for entry in params.detectors.values()}
    assert {"segmentation-foreground", "segmentation-cam"} & set(params.networks) <= set(params.methods)
    assert {entry.network for entry in params.segments.values()} == {
        network for network, entry in params.networks.items() if entry.method == "sec"
    }
    classifying = {
        network
        for network, entry in params.networks.items()
        if (entry.method, entry.network)
        in {("classifier", "classifier"), ("fam", "fam"), ("bcct", "ct"), ("bcct", "joint")}
    }
    classifiers = {network for network, entry in params.networks.items() if entry.method == "classifier"}
    assert classifiers <= set(params.class_scores) <= classifying


def test_a_folder_of_ones_own_needs_no_classes() -> None:
    """With one class nothing can be learnt from labels."""
    params = preset_parameters("folder", ROOT)
    assert list(params.methods) == ["ddt", "norm", "ddt-agnostic", "foreground", "segmentation-foreground"]
    assert list(params.networks) == ["norm", "foreground", "segmentation-foreground"]


def test_the_boxes_of_ddt_calibrate_their_own_chain_alone() -> None:
    for name in PRESETS:
        for method, entry in preset_parameters(name, ROOT).methods.items():
            own = method == "psol" or "foreground" in method or method.startswith("oracle-")
            assert (entry.calibrated_by == "pseudo_boxes") is own, (name, method)
