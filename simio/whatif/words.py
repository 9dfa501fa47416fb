"""What a word on the command line names: a device, a model, a codec, a runtime or a saved scenario."""

from __future__ import annotations

import tomllib
from typing import Any

from simio import catalog, codecs, models
from simio.errors import UnknownNameError, UsageError
from simio.predict.resolve import as_path, names_a_file
from simio.records.scenario import RUNTIMES, Scenario


def fields_of(word: str) -> dict[str, Any]:
    """The scenario fields that ``word`` stands for.

    Looked up in this order: a file (device, scenario or model), device, runtime, codec, model. Raises
    ``UnknownNameError`` with the close matches of all kinds.

    >>> fields_of("pixel8"), fields_of("zstd:1"), fields_of("llama-3.2-1b:q4_0")
    ({'device': 'pixel8'}, {'codec': 'zstd:1'}, {'model': 'llama-3.2-1b:q4_0'})
    """
    if not word.strip():
        raise UsageError("an empty word is nothing to compare", "name devices, models, codecs or scenario files")
    if word.endswith(".toml"):
        return _of_toml(word)
    if names_a_file(as_path(word)):
        return {"model": word}
    kind = _known(word)
    if kind is None:
        known = [*catalog.names(), *models.preset_names(), *codecs.names(), *RUNTIMES]
        raise UnknownNameError("device, model, codec or scenario", word, known)
    return {kind: word}


def saved_scenario(path: str) -> dict[str, Any]:
    """The fields of the scenario saved at ``path``; raises ``UsageError`` where there is none."""
    try:
        return tomllib.loads(as_path(path).read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{path}: no such scenario file", "name the model with --model") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a scenario: {error}", "write one with --save-scenario") from None


def _of_toml(path: str) -> dict[str, Any]:
    """A device file has tables; a scenario is flat."""
    table = saved_scenario(path)
    if "storage" in table or "schema" in table:
        return {"device": path}
    if {"device", "model"} <= table.keys():
        return Scenario.from_json(table, path).to_json()
    raise UsageError(f"{path} is neither a scenario nor a device file", "a scenario names its device and its model")


def _known(word: str) -> str | None:
    if _is_device(word):
        return "device"
    if word in RUNTIMES:
        return "runtime"
    if word.partition("(")[0].partition(":")[0] in codecs.names():
        codecs.parse(word)  # a bad level says so
        return "codec"
    return "model" if _is_model(word) else None


def _is_model(word: str) -> bool:
    try:
        models.resolve_name(word)
    except UnknownNameError as error:
        if "quantization" in error.message:  # the model is known
            raise
        return False
    return True


def _is_device(word: str) -> bool:
    try:
        catalog.find(word)
    except UnknownNameError:
        return False
    return True
