from wsol_core.evaluation.figures import rounded


def test_floats_are_rounded_at_any_depth_and_what_is_undefined_is_null() -> None:
    found = {"test": {"px_ap": float("nan"), "gt_known": 1 / 3, "images": 3, "interval": [0.1, None]}}
    assert rounded(found) == {"test": {"px_ap": None, "gt_known": 0.333333, "images": 3, "interval": [0.1, None]}}
