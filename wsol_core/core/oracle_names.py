"""Whatever learns from ground truth says so in its name, so that no reader takes it for a weakly supervised method."""

from pathlib import PurePath

from wsol_core.core.errors import InputError

PREFIX = "oracle-"


def refuse_plain_name(name: str) -> str:
    """The name of an oracle.

    Raises:
        InputError: it does not begin with `oracle-`.
    """
    if not name.startswith(PREFIX):
        raise InputError(f"{name!r} learns from ground truth: its name must begin with {PREFIX!r}; rename it")
    return name


def refuse_hidden_oracle(name: str, *inputs: str) -> None:
    """Refuse a network that learns from an oracle's files under a plain name.

    `refuse_hidden_oracle("cam", "data/localization/targets/oracle-lr.h5")` raises; `"oracle-cam"` would do, and so
    would `"data/localization/targets/pseudo_masks.h5"`.

    Args:
        name: of the network or detector.
        inputs: paths of the files that it learns from, starts from or sees.

    Raises:
        InputError: a file or a folder of an input is named as an oracle's, the network is not.
    """
    if any(part.startswith(PREFIX) for path in inputs for part in PurePath(path).parts):
        refuse_plain_name(name)
