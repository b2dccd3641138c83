"""Checksums: every byte counts, and the file that changed is named."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from trainer.checksums import SUMS, DamagedError, is_listed, is_sealed, seal, verify

FILES = {"a.txt": b"alpha\n", "b c/d.bin": bytes(range(60)), "b c/e/f": b"", "z\u2028.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(data)
    return tmp_path / "x"


def test_sha256sum_agrees(folder: Path) -> None:
    assert not is_sealed(folder)
    verify(folder)  # nothing to check
    assert not is_listed(folder / "a.txt")
    seal(folder)
    assert is_sealed(folder)
    assert is_listed(folder / "a.txt")
    assert not is_listed(folder / "new")
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(FILES.items())]
    assert (folder / SUMS).read_text() == "".join(lines)
    verify(folder)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=folder, check=True)


def test_sums_of_sha256sum_in_binary_mode(folder: Path) -> None:
    """As models from elsewhere may have them."""
    digest = hashlib.sha256(FILES["a.txt"]).hexdigest()
    (folder / SUMS).write_text(f"{digest} *a.txt\n")
    assert is_listed(folder / "a.txt")
    verify(folder)
    (folder / "a.txt").write_bytes(b"alphb\n")
    with pytest.raises(DamagedError, match=r"a\.txt: expected sha256"):
        verify(folder)


def test_every_byte_of_every_file(folder: Path) -> None:
    """Those of the sums as well."""
    seal(folder)
    count = 0
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            with pytest.raises(DamagedError) as error:
                verify(folder)
            assert path.name == SUMS or str(error.value).startswith(f"{path}: expected sha256 ")
            count += 1
        path.write_bytes(data)
    assert count > 300
    verify(folder)


def test_files_that_come_and_go(folder: Path) -> None:
    seal(folder)
    (folder / "new").write_bytes(b"1")
    verify(folder)
    (folder / "b c" / "d.bin").unlink()
    with pytest.raises(DamagedError, match=r"b c/d\.bin: expected the file that .*SHA256SUMS names, got none"):
        verify(folder)


def test_what_was_sealed_is_not_read_again(folder: Path) -> None:
    """A folder in a folder keeps its sums; damage in between can't hide."""
    seal(folder / "b c")
    (folder / "b c" / "d.bin").write_bytes(b"other")
    seal(folder)
    with pytest.raises(DamagedError, match=r"b c/d\.bin: expected sha256"):
        verify(folder)
    with pytest.raises(DamagedError, match=r"b c/d\.bin: expected sha256"):
        verify(folder / "b c")


def test_some_names_alone(folder: Path) -> None:
    for _ in range(2):  # the second time over what stands there
        (folder / "b c" / "d.bin").write_bytes(b"other")
        seal(folder, ["a.txt", "b c"])
        assert [line.split("  ")[1] for line in (folder / SUMS).read_text().split("\n")[:-1]] == [
            "a.txt",
            "b c/d.bin",
            "b c/e/f",
        ]
        verify(folder)


@pytest.mark.parametrize("line", ["", "hm\n", f"{'0' * 64}  /etc/passwd\n", f"{'0' * 64}  ../x\n", f"{'0' * 63}  a.txt\n"])
def test_sums_that_are_none(folder: Path, line: str) -> None:
    (folder / SUMS).write_text(line)
    with pytest.raises(DamagedError, match=r"SHA256SUMS:1: expected a checksum and the name of a file, got b'"):
        verify(folder)
