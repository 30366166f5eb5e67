import dataclasses
import io
import os
import shutil
import stat
import tarfile
import zipfile

import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing import archives as module
from sdnjax.data.preparing.archives import find_archives, unpack
from sdnjax.data.preparing.command import main
from sdnjax.data.sets import DATA_SETS
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line

FILES = {"set/a.txt": b"alpha" * 300, "set/deep/b.bin": bytes(range(256)) * 40, "readme": b"r"}
FORMS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


def make(path, files=FILES):
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    kind = {"z": "gz", "2": "bz2"}.get(path.name[-1], "")
    kind = "xz" if path.name.endswith("xz") else "gz" if path.name.endswith("gz") else kind
    with tarfile.open(path, f"w:{kind}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_an_archive_comes_out(tmp_path, form):
    archive = make(tmp_path / f"set{form}")
    assert find_archives(archive, ()) == [archive]
    unpack([archive], tmp_path / "new" / "out")
    assert tree(tmp_path / "new" / "out") == FILES


def test_several_share_a_folder_and_are_unpacked_once(tmp_path, monkeypatch):
    first = make(tmp_path / "one.zip")
    second = make(tmp_path / "two.tgz", {"set/deep/c": b"c", "readme": b"newer"})
    out, unpacked = tmp_path / "out", []
    for name in ("_unpack_zip", "_unpack_tar"):
        run = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, run=run: unpacked.append(a[0].name) or run(*a))
    unpack([first, second], out)
    expected = {**FILES, "set/deep/c": b"c", "readme": b"newer"}
    assert tree(out) == expected
    unpack([first, second], out)
    assert unpacked == ["one.zip", "two.tgz"]
    os.utime(second, ns=(5, 5))  # another download, perhaps
    unpack([first, second], out)
    assert unpacked == ["one.zip", "two.tgz", "two.tgz"]
    assert tree(out) == expected


def test_what_a_killed_process_left_is_removed(tmp_path):
    out = tmp_path / "out"
    (out / ".unpacking-old" / "set").mkdir(parents=True)
    (out / ".unpacking-old" / "set" / "half").write_bytes(b"")
    unpack([make(tmp_path / "one.zip")], out)
    assert tree(out) == FILES
    assert not list(out.glob(".unpacking-*"))


def damaged(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) * 2 // 3]
    elif how == "flipped":
        middle = len(content) // 2 if not path.name.endswith(".zip") else 60
        for k in range(middle, middle + 40):
            content[k] ^= 0x55
    elif how == "empty":
        content = b""
    else:
        content = b"<html>please log in</html>" * 100
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("form", "how"),
    [
        (form, how)
        for form in FORMS
        for how in ("cut", "flipped", "empty", "a page")
        if (form, how) != (".tar", "flipped")  # it has no checksums of its content
    ],
)
def test_a_damaged_archive_is_named(tmp_path, form, how):
    archive = damaged(make(tmp_path / f"set{form}"), how)
    with pytest.raises(InputError) as error:
        unpack([archive], tmp_path / "out")
    assert one_line(error).startswith(f"{archive}: the archive is damaged (")
    assert not (tmp_path / "out").exists()


def test_a_tar_that_ends_after_a_file_is_damaged(tmp_path):
    """tarfile itself takes both for complete archives."""
    archive = make(tmp_path / "set.tar")
    whole = archive.read_bytes()
    with tarfile.open(archive) as members:
        second = members.getmembers()[1].offset
    for end in (second, second + 100):
        archive.write_bytes(whole[:end])
        with pytest.raises(InputError, match="unexpected end of data"):
            unpack([archive], tmp_path / "out")


def test_a_damaged_second_archive_leaves_the_first(tmp_path):
    first, second = make(tmp_path / "one.zip"), damaged(make(tmp_path / "two.tgz"), "cut")
    with pytest.raises(InputError, match=r"two\.tgz: the archive is damaged"):
        unpack([first, second], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    make(second, {"more": b"m"})
    unpack([first, second], tmp_path / "out")
    assert tree(tmp_path / "out") == {**FILES, "more": b"m"}


@pytest.mark.parametrize("form", [".zip", ".tar"])
@pytest.mark.parametrize(
    "name", ["../evil", "set/../../evil", "/tmp/evil", "C:\\evil", "..\\evil", "\\\\host\\evil"]
)
def test_nothing_is_written_outside(tmp_path, form, name):
    archive = make(tmp_path / f"set{form}", {"good": b"g", name: b"evil"})
    (tmp_path / "deep").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        unpack([archive], tmp_path / "deep" / "out")
    assert f"{archive}: refused, it would write outside its folder" in one_line(error)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as members:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc"
        members.addfile(member)
    with pytest.raises(InputError, match="link is a link or a device"):
        unpack([archive], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_are_readable_and_not_executable_by_others(tmp_path):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as members:
        member = tarfile.TarInfo("file")
        member.mode = 0o7777
        members.addfile(member)
    unpack([archive], tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "file").stat().st_mode) == 0o755


def test_an_encrypted_zip_is_one_line(tmp_path):
    archive = make(tmp_path / "set.zip")
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged .*encrypted"):
        unpack([archive], tmp_path / "out")


@pytest.fixture
def packed(camvid_dir, tmp_path, monkeypatch):
    """CamVid in two archives, as Cityscapes comes."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    images, labels = folder / "images.zip", folder / "labels.tar.gz"
    with zipfile.ZipFile(images, "w") as members, tarfile.open(labels, "w:gz") as others:
        for path in sorted(camvid_dir.rglob("*.png")):
            name = str(path.relative_to(camvid_dir))
            if "annot" in name:
                others.add(path, name)
            else:
                members.write(path, name)
    layout = dataclasses.replace(DATA_SETS["camvid"], archives=(images.name, labels.name))
    monkeypatch.setitem(DATA_SETS, "camvid", layout)
    return folder


@pytest.mark.parametrize("given", ["", "images.zip"])
def test_a_folder_of_archives_is_a_source(packed, camvid_dir, tmp_path, given):
    source = str(packed / given)
    command = ["camvid", "--source", source, "--data-dir", str(tmp_path / "out"), "--partial"]
    assert main([*command, "--workers", "1"]) == 0
    prepared = open_source(Data(name="camvid", dir=str(tmp_path / "out")), "val")
    folder = open_source(Data(name="camvid", dir=str(camvid_dir)), "val")
    assert [prepared.read(k).image for k in range(4)] == [folder.read(k).image for k in range(4)]
    unpacked = tmp_path / "out" / "camvid" / "unpacked"
    assert set(tree(unpacked)) == {
        str(p.relative_to(camvid_dir)) for p in camvid_dir.rglob("*.png")
    }


def test_the_place_can_be_chosen(packed, tmp_path):
    command = ["camvid", "--source", str(packed), "--data-dir", str(tmp_path / "out"), "--partial"]
    assert main([*command, "--workers", "1", "--unpacked", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / "train").is_dir()
    assert [p.name for p in (tmp_path / "out" / "camvid").iterdir()] == ["1.0.0"]


def test_a_missing_archive_is_named(packed, tmp_path, capsys):
    (packed / "labels.tar.gz").unlink()
    command = ["camvid", "--source", str(packed), "--data-dir", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "images.zip held no train/*.png with" in error
    assert "there is no labels.tar.gz beside" in error
    shutil.rmtree(packed)
    packed.mkdir()
    assert main(command) == 2
    assert "valannot/*.png there, or images.zip and labels.tar.gz" in capsys.readouterr().err
