"""A device is found by id, by what people call it, and by the path of a file of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from simio import catalog
from simio.errors import DeviceFileError, UnknownNameError
from simio.paths import data_dir


@pytest.mark.parametrize(
    ("called", "device_id"),
    [
        ("pixel8", "pixel8"),
        ("Pixel 8", "pixel8"),
        ("Google Pixel 8 Pro", "pixel8-pro"),
        ("galaxy-s23", "galaxy-s23"),
        ("s23", "galaxy-s23"),
        ("Samsung Galaxy S23 (8 GB)", "galaxy-s23"),
        ("Galaxy S24 Ultra", "galaxy-s24-ultra"),
        ("OnePlus 15R (12 GB)", "oneplus15r"),
        ("iPhone 15 Pro", "iphone15-pro"),
        ("POCO (code name myron)", "poco-myron"),
        ("Raspberry Pi 5", "rpi5-nvme"),
        ("rpi5", "rpi5-sd"),
        ("MacBook Air M2", "macbook-air-m2"),
        ("jetson orin nano", "jetson-orin-nano"),
    ],
)
def test_a_device_is_found_by_what_people_call_it(called: str, device_id: str) -> None:
    assert catalog.load(called).id == device_id


def test_every_alias_leads_to_its_own_file() -> None:
    for name in catalog.names():
        device = catalog.load(name)
        for alias in (device.name, *device.aliases):
            assert catalog.find(alias).stem == name, alias


@pytest.mark.parametrize(
    ("called", "close"), [("galaxys32", "galaxy-s23"), ("pixle8", "pixel8"), ("oneplus-12x", "oneplus12")]
)
def test_an_unknown_device_lists_the_close_matches(called: str, close: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown device '{called}'") as caught:
        catalog.load(called)
    assert close in caught.value.hint


@pytest.mark.parametrize("called", ["", "   ", "()", "!?", "../devices/pixel8", "samsung", "galaxy"])
def test_a_name_that_names_nothing_is_unknown(called: str) -> None:
    with pytest.raises(UnknownNameError):
        catalog.load(called)


def test_a_file_of_ones_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    mine = tmp_path / "my-phone.toml"
    shutil.copy(data_dir("devices") / "pixel8.toml", mine)
    mine.write_text(mine.read_text().replace('id = "pixel8"', 'id = "my-phone"'))
    assert catalog.load(str(mine)).id == "my-phone"


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DeviceFileError, match="no such file"):
        catalog.load(str(tmp_path / "none.toml"))


def test_an_exact_id_opens_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(data_dir("devices") / "pixel8.toml", tmp_path)
    (tmp_path / "broken.toml").write_text("this is not TOML")
    monkeypatch.setattr("simio.catalog.lookup.data_dir", lambda name: tmp_path)
    assert catalog.load("pixel8").soc == "Google Tensor G3"
    with pytest.raises(DeviceFileError, match=r"broken\.toml"):
        catalog.load("some other phone")


def test_the_json_of_a_device_survives_a_round_trip() -> None:
    shown = catalog.to_json(catalog.load("oneplus15r"))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert shown["memory"]["read_bandwidth"]["unit"] == "bytes_per_s"
    assert shown["sources"]["iobench"]["url"].startswith("https://")
