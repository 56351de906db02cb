"""Fonts with the letters of a text: matplotlib's default, else an installed one."""

import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ImageFont

_DEFAULT_FAMILY = "DejaVu Sans"
_PLACEHOLDERS = "lastresort"
"""Matplotlib's fallback font, whose glyphs name the missing script."""

MAX_SPELLED = 48
"""Largest length of a text from `spell`; the middle of a longer one is left out."""


@lru_cache(maxsize=1)
def find_default_font() -> Path:
    """Return matplotlib's default font: Latin, Greek, Cyrillic and a few other scripts."""
    import matplotlib  # slow to import

    return Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")


@lru_cache(maxsize=1024)
def find_font(text: str) -> Path | None:
    """Return a font with every letter of a text, preferably upright and sans serif, or None."""
    letters = {ord(letter) for letter in text if _is_visible(letter)}
    if _has_glyphs(find_default_font(), letters):
        return find_default_font()
    from matplotlib import font_manager  # slow: lists all installed fonts

    entries = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (
            font.style != "normal",
            font.weight not in (400, "normal", "regular"),
            "sans" not in font.name.casefold(),
            font.name,
            font.fname,
        ),
    )
    fonts = dict.fromkeys(Path(entry.fname) for entry in entries)
    return next((font for font in fonts if _has_glyphs(font, letters) and _can_draw(font)), None)


def load_font(text: str, size_px: int) -> ImageFont.FreeTypeFont:
    """Return the font of `find_font`, or the default font if there is none."""
    return ImageFont.truetype(find_font(text) or find_default_font(), size_px)


def list_families(texts: Iterable[str]) -> list[str]:
    """Return the values of matplotlib's `font.family` that cover the letters of all texts."""
    found = dict.fromkeys(map(find_font, texts))
    from matplotlib.ft2font import FT2Font

    others = [FT2Font(str(font)) for font in found if font not in (None, find_default_font())]
    return [_DEFAULT_FAMILY, *(font.family_name for font in others)]


def spell(text: str) -> str:
    """Replace letters that the default font lacks by code points: `A 背` becomes `A U+80CC`."""
    words = [
        letter if _has_glyphs(find_default_font(), {ord(letter)}) else f" U+{ord(letter):04X} "
        for letter in text
    ]
    spelled = " ".join("".join(words).split())
    if len(spelled) <= MAX_SPELLED:
        return spelled
    return f"{spelled[: MAX_SPELLED // 2]}…{spelled[-MAX_SPELLED // 2 :]}"


def describe_undrawable(names: Sequence[str]) -> str | None:
    """Return a text on class names that no installed font covers; None if there are none."""
    lacking = [name for name in names if find_font(name) is None]
    if not lacking:
        return None
    return (
        f"No installed font has the letters of {len(lacking)} of the {len(names)} class names, "
        f"such as {lacking[0]}: overlays name these classes by number and code points. Install a "
        "font that has them, such as Noto Sans CJK, to see the names."
    )


def _is_visible(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn")


def _has_glyphs(path: Path, letters: set[int]) -> bool:
    return not letters or bool(np.isin(list(letters), _list_letters(path)).all())


@lru_cache(maxsize=4096)
def _list_letters(path: Path) -> npt.NDArray[np.int64]:
    """Return the code points for which a font has glyphs; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    charmap: dict[int, int] = {}
    if _PLACEHOLDERS not in path.name.casefold():
        with suppress(OSError, RuntimeError, ValueError):
            charmap = dict(FT2Font(str(path)).get_charmap())
    return np.fromiter(charmap, np.int64)


def _can_draw(path: Path) -> bool:
    try:
        return bool(ImageFont.truetype(path, 12))
    except OSError:
        return False  # bitmap fonts of one size, such as emoji
