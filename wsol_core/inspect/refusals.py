"""What a request is refused with."""

BAD, UNKNOWN = 400, 404


class RefusalError(Exception):
    """A request that asks for what there is not: one line for the person, and HTTP's status."""

    def __init__(self, line: str, status: int = UNKNOWN) -> None:
        super().__init__(line)
        self.status = status
