"""Texts of the tasks: TOML files, one for each module that writes tasks, and their reader.

`phrases("gfc/unit_conversion")` are the phrases with that name in gfc.toml. Nothing is read before it is needed.
"""

from trainer.hima_ecom.tasks.texts.reader import (
    Phrases,
    Sentences,
    file_names,
    phrases,
    read,
    sentences,
    table,
    translations,
    word_list,
)

__all__ = ["Phrases", "Sentences", "file_names", "phrases", "read", "sentences", "table", "translations", "word_list"]
