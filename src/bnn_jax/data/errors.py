"""The error of a data set that cannot be loaded."""


class DataError(ValueError):
    """A data set cannot be loaded; the message says why and what to do, in one line."""


def one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())
