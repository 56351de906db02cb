"""Label formats of other tools, converted to the native layout by `import_dataset`."""

from atrous.formats.importer import ImportReport, import_dataset

__all__ = ["ImportReport", "import_dataset"]
