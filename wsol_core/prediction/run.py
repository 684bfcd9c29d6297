"""A prediction over many images: decoded ahead in threads, seen in batches, written in threads, one bad file or not."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from wsol_core.core.errors import InputError
from wsol_core.core.parallel import in_threads
from wsol_core.data.images import Picture
from wsol_core.prediction.outputs import Outputs, Record
from wsol_core.prediction.predictor import Predictor
from wsol_core.prediction.sources import Found, Source

R = TypeVar("R")


class Outcome(NamedTuple):
    """A run's end."""

    records: list[Record]
    """of the images that are done, by name"""
    kept: int
    """how many of them were done before"""
    failed: list[Record]
    """`image` and `reason` of those that could not be read"""


def predict_files(
    predictor: Predictor, found: Found, outputs: Outputs, batch: int, report: Callable[[str], None]
) -> Outcome:
    """Predict all images that are not done yet, and write what is found.

    Args:
        predictor: the network.
        found: the images, and what was passed over, which is reported and listed as failed.
        outputs: where to.
        batch: images at once.
        report: gets a line for each image that cannot be read, at once.

    Raises:
        InputError: an output would replace a user's file or an input; nothing is written then.
    """
    sources = found.sources
    before = [outputs.done(source) for source in sources]
    todo = [source for source, record in zip(sources, before, strict=True) if record is None]
    records = [record for record in before if record is not None]
    outputs.start(todo)
    kept = len(records)
    failed: list[Record] = [{"image": str(path), "reason": reason} for path, reason in found.passed_over]
    for path, reason in found.passed_over:
        report(f"error: {path}: {reason}; left out")
    for source, result in _predicted(predictor, todo, outputs, batch):
        if isinstance(result, InputError):
            reason = str(result).rsplit("; ", 1)[0].removeprefix(f"{source.path}: ")
            failed.append({"image": str(source.path), "reason": reason})
            report(f"error: {source.path}: {reason}; left out")
        else:
            records.append(result)
    records.sort(key=lambda record: str(record["name"]))
    outputs.finish(records, failed)
    return Outcome(records, kept, failed)


def _predicted(
    predictor: Predictor, sources: Sequence[Source], outputs: Outputs, batch: int
) -> Iterator[tuple[Source, Record | InputError]]:
    """Each image with its record, or why there is none."""

    def load(source: Source) -> tuple[Source, Picture | InputError]:
        return source, _or_error(partial(predictor.squash, source.path))

    decoded = in_threads(load, zip(sources, strict=True), ahead=2 * batch)
    loaded = iter(tqdm(decoded, "predict", len(sources), unit="image", disable=None))
    while part := list(islice(loaded, batch)):
        good = [(source, picture) for source, picture in part if not isinstance(picture, InputError)]
        yield from ((source, error) for source, error in part if isinstance(error, InputError))
        if not good:
            continue
        seen = predictor.look([picture for _, picture in good])
        work = [(partial(outputs.write, source, own),) for (source, _), own in zip(good, seen, strict=True)]
        yield from zip((source for source, _ in good), in_threads(_or_error, work), strict=True)


def _or_error(work: Callable[[], R]) -> R | InputError:
    try:
        return work()
    except InputError as error:
        return error
