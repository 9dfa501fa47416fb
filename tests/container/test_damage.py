"""A container that is not as it was packed is never read as if it were."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest
import xxhash
from command_line import simio
from resealing import resealed

from simio.container.header import HEADER_BYTES
from simio.container.packing import Packed
from simio.container.reading import Container
from simio.container.unpacking import unpack
from simio.container.verifying import find_damage
from simio.errors import ContainerError

N_CORRUPTIONS = 400


def _is_detected(path: Path) -> bool:
    try:
        with Container.open(path) as container:
            return bool(find_damage(container, n_workers=1))
    except ContainerError:
        return True


def _flip(data: bytearray, rng: random.Random) -> str:
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} flipped"


def _overwrite(data: bytearray, rng: random.Random) -> str:
    at, n = rng.randrange(len(data)), rng.choice([1, 8, 512, 4096])
    data[at : at + n] = rng.randbytes(len(data[at : at + n]))
    return f"{n} bytes from {at} overwritten"


def _zero_page(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data) // 4096) * 4096
    data[at : at + 4096] = bytes(4096)
    return f"page at {at} lost"


def _swap_pages(data: bytearray, rng: random.Random) -> str:
    a, b = (page * 4096 for page in rng.sample(range(len(data) // 4096), 2))
    data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]
    return f"pages at {a} and {b} exchanged"


def _truncate(data: bytearray, rng: random.Random) -> str:
    del data[rng.randrange(len(data)) :]
    return f"truncated to {len(data)}"


def _append(data: bytearray, rng: random.Random) -> str:
    data += bytes(rng.choice([1, 4096]))
    return f"lengthened to {len(data)}"


def _remove(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 4096])]
    return f"shortened at {at}"


KINDS = [_flip, _flip, _flip, _overwrite, _zero_page, _swap_pages, _truncate, _append, _remove]


def test_no_random_corruption_goes_undetected(packed: Packed, tmp_path: Path) -> None:
    original = packed.path.read_bytes()
    rng, bad, n_tried = random.Random(3), tmp_path / "bad.simio", 0
    for i in range(N_CORRUPTIONS):
        data = bytearray(original)
        what = KINDS[i % len(KINDS)](data, rng)
        if data == original:  # for example a page of zeros zeroed
            continue
        n_tried += 1
        bad.write_bytes(data)
        assert _is_detected(bad), what
    assert n_tried >= 300


def test_a_flipped_bit_in_every_page_and_every_field_of_the_header_is_detected(packed: Packed, tmp_path: Path) -> None:
    original, bad = packed.path.read_bytes(), tmp_path / "bad.simio"
    for at in (*range(80), 4087, *range(4088, 4096), *range(4096, len(original), 4096), len(original) - 1):
        data = bytearray(original)
        data[at] ^= 1
        bad.write_bytes(data)
        assert _is_detected(bad), f"byte {at}"


def test_a_flipped_bit_is_detected_when_its_chunk_alone_is_read(packed: Packed) -> None:
    rng, data = random.Random(5), packed.path.read_bytes()
    for number in range(packed.n_chunks):
        with Container.open(packed.path) as container:
            offset, n_bytes = container.stored_span(number)
            stored_bytes = container.chunk(number).stored_bytes
            for at in {0, stored_bytes - 1, n_bytes - 1, rng.randrange(n_bytes)}:  # the last are padding, mostly
                region = bytearray(data[offset : offset + n_bytes])
                region[at] ^= 1 << rng.randrange(8)
                with pytest.raises(ContainerError, match=f"chunk {number} "):
                    container.unpack_chunk(number, region)
            with pytest.raises(ContainerError, match="checksum"):
                container.unpack_chunk(number, data[offset : offset + n_bytes - 1])


def test_verify_names_each_damaged_chunk_and_its_tensor(packed: Packed) -> None:
    with Container.open(packed.path) as container:
        numbers = [container.chunks_of(container.pieces_of(name)[0])[0] for name in
                   ("token_embd.weight", "output_norm.weight")]  # fmt: skip
        offsets = [container.stored_span(number)[0] for number in numbers]
    with packed.path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"damage!!")
    shown = simio("verify", packed.path)
    assert (shown.code, shown.out) == (10, "")
    assert "2 of" in shown.err
    assert "token_embd.weight" in shown.err
    assert "output_norm.weight" in shown.err
    assert "→" in shown.err
    table = simio("verify", packed.path, "--json")
    assert (table.code, table.json["ok"]) == (10, False)
    assert [(row["chunk"], row["offset"]) for row in table.json["damaged"]] == sorted(
        zip(numbers, offsets, strict=True)
    )


def test_unpacking_a_damaged_container_leaves_nothing(packed: Packed, tmp_path: Path) -> None:
    with packed.path.open("r+b") as file:
        file.seek(packed.index.table["offset"][-1].item())
        file.write(b"damage!!")
    with Container.open(packed.path) as container, pytest.raises(ContainerError, match="checksum"):
        unpack(container, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_cut_while_open_is_detected(packed: Packed) -> None:
    with Container.open(packed.path) as container:
        packed.path.open("r+b").truncate(HEADER_BYTES + 10)
        with pytest.raises(ContainerError, match="ends at byte"):
            container.read_chunk(0)


@pytest.mark.parametrize("n_more", [-4096, -1, 1, 4096])
def test_the_exact_length_is_known(packed: Packed, n_more: int) -> None:
    n_bytes = packed.path.stat().st_size
    packed.path.open("r+b").truncate(n_bytes + n_more)
    with pytest.raises(ContainerError, match=f"has {n_bytes + n_more} bytes, but was packed with {n_bytes}"):
        Container.open(packed.path)


def test_what_is_no_container_is_refused(moe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.simio").touch()
    (tmp_path / "short.simio").write_bytes(b"\x93SIMIO\r\n1234")
    for path, says in (
        (moe, "not a simio container"),
        (tmp_path / "empty.simio", "not a simio container"),
        (tmp_path / "short.simio", "too few"),
        (tmp_path / "missing.simio", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        for command in (("verify", path), ("unpack", path, "-o", tmp_path / "out")):
            result = simio(*command)
            assert (result.code, result.out) == (10, "")
            assert says in result.err
            assert "→" in result.err
    assert not (tmp_path / "out").exists()


def test_a_container_of_a_later_version_says_update(packed: Packed) -> None:
    data = bytearray(packed.path.read_bytes())
    data[8:12] = struct.pack("<I", 2)
    data[4088:4096] = struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(data[:4088])))
    packed.path.write_bytes(data)
    with pytest.raises(ContainerError, match="newer") as caught:
        Container.open(packed.path)
    assert caught.value.hint == "update simio"


def _rename(facts, name: str) -> None:
    facts["files"]["name"][0] = facts["model"]["files"][0] = name


CONTRADICTIONS = {
    "a file name that leaves the directory": lambda f: _rename(f, "../evil.gguf"),
    "an absolute file name": lambda f: _rename(f, "/tmp/evil.gguf"),
    "a file without a name": lambda f: _rename(f, ""),
    "another file size": lambda f: f["files"]["n_bytes"].__setitem__(0, f["files"]["n_bytes"][0] + 1),
    "a piece moved": lambda f: f["pieces"]["offset"].__setitem__(1, f["pieces"]["offset"][1] + 1),
    "a piece longer": lambda f: f["pieces"]["n_bytes"].__setitem__(1, 10**15),
    "a piece of no file": lambda f: f["pieces"]["file"].__setitem__(0, -1),
    "a piece of no tensor": lambda f: f["pieces"]["tensor"].__setitem__(-1, 99),
    "chunks out of order": lambda f: f["pieces"]["first_chunk"].reverse(),
    "codecs missing": lambda f: f["codecs"].clear(),
    "a column missing": lambda f: f["pieces"].pop("expert"),
    "no model": lambda f: f.pop("model"),
    "facts of the wrong type": lambda f: f.__setitem__("pieces", 3),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_an_index_that_contradicts_itself_is_refused_even_with_right_checksums(packed: Packed, what: str) -> None:
    shutil.copy(packed.path, packed.path.with_suffix(".copy"))
    resealed(packed.path.with_suffix(".copy"), lambda facts: None)
    Container.open(packed.path.with_suffix(".copy")).close()
    resealed(packed.path, CONTRADICTIONS[what])
    with pytest.raises(ContainerError, match="contradicts itself"):
        Container.open(packed.path)
