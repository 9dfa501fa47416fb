"""The project holds what it says: documents, examples, entry points and the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import simio

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generate  # noqa: E402 - lies in docs/

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.with_suffix(".out").exists())


def test_the_page_of_commands_is_up_to_date():
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == generate.commands()


def test_the_prediction_in_the_readme_is_up_to_date():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == generate.readme()


def test_the_page_of_layouts_is_up_to_date():
    assert (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8") == generate.layouts()


@pytest.mark.parametrize("command", [c for c in generate.COMMANDS if c])
def test_every_command_has_an_example_in_its_help(command):
    assert "Example: simio" in simio(*command.split(), "--help").out


def test_there_are_two_examples_at_least():
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_lies_beside_it(example):
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == example.with_suffix(".out").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("group", "rooms"),
    [("codecs", ["codecs"]), ("formats", ["container", "formats"]), ("cache_policies", ["cache"]),
     ("importers", ["importers"])],
)  # fmt: skip
def test_the_install_knows_every_entry_point_and_each_lies_in_its_room(group, rooms):
    from simio import registry

    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][f"simio.{group}"]
    assert registry.names(group) == sorted(table), "run `pip install -e .` again: an entry point is new or gone"
    for name, target in table.items():
        assert target.split(".")[1] in rooms
        assert registry.get(group, name) is not None


def test_the_wheel_installed_elsewhere_lists_the_devices(tmp_path):
    wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, built]
    subprocess.run(pip, check=True, capture_output=True)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import simio.paths; print(simio.paths.data_dir('devices'))\n"
        "sys.argv = ['simio', 'devices', 'list']\n"
        "from simio.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    folder, *lines = done.stdout.splitlines()
    assert folder.startswith(str(target))
    assert len(lines) >= 20
    assert any(line.startswith("pixel8 ") for line in lines)
