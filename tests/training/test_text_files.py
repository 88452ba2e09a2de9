"""Text files: what is refused, and that reading piece by piece gives the text back."""
import gzip
import hashlib
import lzma

import pytest

from kzoo.training import text_files
from kzoo.training.text_files import check_text, file_kind, read_lines, read_pieces, split_point

TEXT = "Größe, été, 中文 and 🙂\nsecond line\r\n\n" * 13


@pytest.fixture
def small_reads(monkeypatch):
    """Reads and pieces so small that characters and lines are cut everywhere."""
    monkeypatch.setattr(text_files, "READ_SIZE", 7)
    monkeypatch.setattr(text_files, "PIECE_SIZE", 11)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_counts_characters_not_bytes_and_hashes_the_bytes(tmp_path, small_reads):
    text = check_text(write(tmp_path / "a.txt", TEXT))
    assert text.characters == len(TEXT) != len(TEXT.encode())
    assert text.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.mark.parametrize("suffix, pack", [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_file_is_the_same_text(tmp_path, suffix, pack):
    plain = check_text(write(tmp_path / "a.txt", TEXT))
    packed = check_text(write(tmp_path / f"a.txt{suffix}", pack(TEXT.encode())))
    assert (packed.characters, packed.sha256) == (plain.characters, plain.sha256)
    assert "".join(read_pieces(packed)) == TEXT


@pytest.mark.parametrize("start, stop", [(0, None), (0, 17), (17, None), (19, 83), (5, 5 + 1)])
def test_pieces_are_the_part_asked_for(tmp_path, small_reads, start, stop):
    text = check_text([write(tmp_path / "a.txt", TEXT[:101]), write(tmp_path / "b.txt", TEXT[101:])])
    pieces = list(read_pieces(text, start, stop))
    assert "".join(pieces) == TEXT[start:stop]
    assert all(len(piece) <= 11 for piece in pieces)


def test_pieces_do_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch):
    text = check_text(write(tmp_path / "a.txt", TEXT))
    monkeypatch.setattr(text_files, "PIECE_SIZE", 23)
    found = []
    for size in (3, 1000):
        monkeypatch.setattr(text_files, "READ_SIZE", size)
        found.append(list(read_pieces(text, 2)))
    assert found[0] == found[1]
    assert found[0] != list(read_pieces(text, 3))


def test_pieces_end_after_a_line_else_after_a_blank(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE_SIZE", 10)
    text = check_text(write(tmp_path / "a.txt", "one\ntwo three four fiveandsixandseven"))
    assert list(read_pieces(text)) == ["one\n", "two three ", "four ", "fiveandsix", "andseven"]


def test_the_byte_order_mark_is_no_text(tmp_path):
    text = check_text(write(tmp_path / "a.txt", b"\xef\xbb\xbfab"))
    assert text.characters == 2
    assert list(read_pieces(text)) == ["ab"]


def test_the_split_is_nanogpts():
    for characters in (7, 1_115_394, 999_999_937):
        assert split_point(characters, 0.1) == int(characters * 0.9)


@pytest.mark.parametrize("data, words", [
    (b"", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"ab\x00cd", "binary: byte 2 is zero"),
    (b"first\nsecond \xff", r"not UTF-8: byte 13 \(line 2\) is 0xff"),
    (b"cut at the end \xe4\xb8", r"not UTF-8: byte 15 \(line 1\)"),
])
@pytest.mark.parametrize("read_size", [3, 1 << 20])
def test_refuses_what_is_no_text(tmp_path, monkeypatch, data, words, read_size):
    monkeypatch.setattr(text_files, "READ_SIZE", read_size)
    with pytest.raises(ValueError, match=words):
        check_text(write(tmp_path / "a.txt", data))


def test_refuses_missing_files_folders_and_damaged_archives(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt does not exist"):
        check_text(tmp_path / "none.txt")
    with pytest.raises(OSError, match="is not a file"):
        check_text(tmp_path)
    with pytest.raises(ValueError, match="No data file"):
        check_text([])
    with pytest.raises(TypeError, match="given by its path"):
        check_text([b"a"])
    for suffix, data in ((".gz", gzip.compress(TEXT.encode())[:-9]), (".gz", b"plain"), (".xz", b"plain"),
                         (".xz", lzma.compress(TEXT.encode())[:-9])):
        with pytest.raises(ValueError, match=f"damaged {suffix}"):
            check_text(write(tmp_path / f"a{suffix}", data))


def test_notices_a_file_that_became_shorter(tmp_path):
    path = write(tmp_path / "a.txt", TEXT)
    text = check_text(path)
    write(path, TEXT[:40])
    with pytest.raises(ValueError, match="changed while being read"):
        list(read_pieces(text))


def test_lines_are_numbered_and_lose_their_ends(tmp_path, small_reads):
    text = "first\r\n\nthird \u2028 line\nno end"
    digest = hashlib.sha256()
    assert list(read_lines(write(tmp_path / "a.txt", text), digest)) == [
        (1, "first"), (2, ""), (3, "third \u2028 line"), (4, "no end")]
    assert digest.hexdigest() == hashlib.sha256(text.encode()).hexdigest()
    assert list(read_lines(write(tmp_path / "a.txt", "first\n"))) == [(1, "first")]


def test_the_kind_of_a_packed_file_is_that_of_what_is_in_it():
    assert [file_kind(name) for name in ("a.tsv", "a.b.CSV.gz", "train.en.xz", "a")] == [".tsv", ".csv", ".en", ""]
