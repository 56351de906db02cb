"""Label formats of other tools, converted to the native layout by `import_dataset`."""

from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
    from atrous.formats.importer import ImportReport, import_dataset

__all__ = ["ImportReport", "import_dataset"]

__getattr__, __dir__ = import_lazily(
    __name__, {"atrous.formats.importer": ["ImportReport", "import_dataset"]}
)
