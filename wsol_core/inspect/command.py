"""The command `wsol inspect`."""

from pathlib import Path
from urllib.parse import parse_qsl

from wsol_core.core.errors import InputError
from wsol_core.inspect.inspection import Inspection
from wsol_core.inspect.queries import PageQuery, read_query
from wsol_core.inspect.refusals import RefusalError
from wsol_core.inspect.workspaces import open_workspaces


def run(
    host: str, port: int, revisions: list[str], static: Path | None, images: int, address: str, overwrite: bool
) -> str:
    """Serve the project in the current folder, or write the folder `static` of at most `images` images of a set.

    `address` is what follows `#` in the address of a page: it chooses the images of the folder. With
    `overwrite` files of the user may be replaced there.

    Returns:
        A line for the person.

    Raises:
        InputError: there is nothing to show, a revision, filter or address is wrong, or a file of the user's would be
            replaced.
    """
    inspection = Inspection(open_workspaces(Path.cwd(), revisions))
    if static is None:
        from wsol_core.inspect.server import serve

        serve(inspection, host, port)
        return "stopped"
    from wsol_core.inspect.static import write_static

    try:
        words = dict(parse_qsl(address.rpartition("#")[2]))
        known = {key: words[key] for key in PageQuery.model_fields if key in words}
        query = read_query(PageQuery, {"data_set": inspection.sets[0], **known})
        count = write_static(inspection, query, images, static, overwrite)
    except RefusalError as error:
        raise InputError(f"--filter: {error}") from error
    return f"{static}: {count} images; open {static / 'index.html'}"
