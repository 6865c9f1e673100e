"""Output whose encoding lacks characters, as that of ``PYTHONIOENCODING=ascii`` or of a Windows code page."""

import codecs
import io

PLAIN = {"−": "-", "×": "x", "±": "+/-", "→": "->", "…": "...", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "²": "2"}
"""What is printed in place of our own characters. Those of names are printed as their numbers, like ``\\xe9``."""

ERRORS = "aepretrain-plain"
"""Name of the error handler that does this."""

ASCII = "ascii_only"
"""Another name of ASCII: click takes an output in "ascii" for a mistake and writes UTF-8 to it."""


def adapt(stream: io.TextIOWrapper) -> None:
    """Let an output print what its encoding has, and other characters as above."""
    codecs.register_error(ERRORS, _replace)
    if codecs.lookup(stream.encoding).name == "ascii":
        codecs.register(_find_ascii)
        stream.reconfigure(encoding=ASCII, errors=ERRORS)
    else:
        stream.reconfigure(errors=ERRORS)


def plain(text: str, encoding: str) -> str:
    """The text as an output with this encoding prints it, for a layout that counts characters."""
    codecs.register_error(ERRORS, _replace)
    return text.encode(encoding, ERRORS).decode(encoding)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "nothing is read"
    lacking = error.object[error.start : error.end]
    shown = (PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return "".join(shown), error.end


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        codec.encode,
        codec.decode,
        incrementalencoder=codec.incrementalencoder,
        incrementaldecoder=codec.incrementaldecoder,
        name=ASCII,
    )
