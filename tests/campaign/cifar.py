"""Bad files in the layouts of CIFAR: folders and archives, pickles and records."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
from typing import Any

import numpy as np

from campaign import bases, mutate
from campaign.bases import COMPRESSIONS, Bases
from campaign.case import Case, Command, Place
from campaign.vectors import Runs


def cifar(place: Place, known: Bases, number: int) -> Case:
    """Members of an archive or files of a folder that are changed."""
    random = place.random
    if number < 12:
        return _valid(place, ("cifar10", "cifar100")[number % 2], number // 2)
    name, pickled = random.choice(("cifar10", "cifar100")), random.random() < 0.6
    files = bases.cifar_pickles(name, random.randint(0, 5)) if pickled else bases.cifar_binary(name)
    file = random.choice(list(files))
    how = random.random()
    if how < 0.45:
        files[file], about = mutate.change_bytes(random, files[file])
    elif how < 0.6:
        change = random.choice(("drop", "rename", "exchange"))
        about = f"{change}"
        if change == "drop":
            del files[file]
        elif change == "rename":
            files[file.upper()] = files.pop(file)
        else:
            other = random.choice(list(files))
            files[file], files[other] = files[other], files[file]
            about += f" with {other}"
    elif pickled:
        files[file], about = _other_record(place, name, file)
    else:
        files[file], about = _other_binary(place, files[file], file)
    return _case(place, name, files, f"{name}, {file}: {about}")


def _valid(place: Place, name: str, protocol: int) -> Case:
    """Good data, as numpy pickles them in each protocol."""
    bases.lay(place.work / "data", bases.cifar_pickles(name, protocol))
    words = ["data", name, "--data-dir", "data", "--out", "sheet.png"]
    return Case(f"data: protocol {protocol}", Command(words), ("sheet.png",), must_succeed="the data are whole")


def _case(place: Place, name: str, files: dict[str, bytes], about: str) -> Case:
    """The files in a folder or an archive, and what reads them."""
    kind = place.random.choice(("", "", *COMPRESSIONS))
    if kind:
        path = f"data{kind}"
        (place.work / path).write_bytes(bases.tar(files, COMPRESSIONS[kind]))
    else:
        path = "data"
        bases.lay(place.work / path, files)
    return Case(f"{path}: {about}", Command(_reader(place, name, path)), writes=("sheet.png", "tree.json"))


def _reader(place: Place, name: str, path: str) -> list[str]:
    read = ["data", name, "--data-dir", path, "--out", "sheet.png"]
    tree = ["tree", "build", "groups", "--data", name, "--data-dir", path, "--out", "tree.json"]
    return place.random.choice([read, read, read, tree])


def _other_record(place: Place, name: str, file: str) -> tuple[bytes, str]:
    """A pickle of something else."""
    random = place.random
    record = bases.cifar_records(name)[file]
    key = random.choice(list(record))
    value = record[key]
    count = len(value)
    odd = random.choice(mutate.NAMES)
    loop: list[Any] = []
    loop.append(loop)
    changes: list[tuple[Any, str]] = [
        ({other: value for other, value in record.items() if other != key}, "dropped"),
        ({**record, key: None}, "none"),
        ({**record, key: []}, "empty"),
        ({**record, key: [0.5] * count}, "floats"),
        ({**record, key: [10**400] * count}, "numbers of 400 digits"),
        ({**record, key: [2**63] * count}, "2^63"),
        ({**record, key: [-1] * count}, "below zero"),
        ({**record, key: [255] * count}, "255"),
        ({**record, key: [True] * count}, "truths"),
        ({**record, key: ["٣"] * count}, "digits of another script"),
        ({**record, key: [odd] * count}, f"called {odd[:20]!a}"),
        ({**record, key: list(range(count * 2))}, "twice as many"),
        ({**record, key: [*value, value[0]]}, "one more"),
        ({**record, key: list(value)[:-1]}, "one fewer"),
        ({**record, key: np.array([1.5] * count)}, "an array of floats"),
        ({**record, key: np.array([0] * count, dtype=np.int8)}, "an array of bytes"),
        ({**record, key: np.array([0] * count, dtype=">i4")}, "an array the other way round"),
        ({**record, key: np.zeros((count, 3072), dtype=np.int64)}, "wide numbers"),
        ({**record, key: np.zeros((count, 3, 32, 32), dtype=np.uint8)}, "four dimensions"),
        ({**record, key: np.zeros((0, 3072), dtype=np.uint8)}, "no rows"),
        ({**record, key: np.zeros((count, 3071), dtype=np.uint8)}, "a pixel too few"),
        ({**record, key: np.asfortranarray(np.zeros((count, 3072), dtype=np.uint8))}, "columns first"),
        ({**record, key: np.array([None] * count)}, "an array of objects"),
        ({**record, key: loop}, "a list of itself"),
        ({**record, key: {"a": value}}, "nested"),
        ({**record, 5: value}, "a number for a key"),
        ({**record, b"\xff": value}, "a key that is no text"),
        (list(record.items()), "a list"),
        (None, "none of it"),
        ({**record, key: Runs(place.canary)}, "executes"),
        ({**record, "more": set(range(5))}, "a set"),
        ({**record, "more": 3 + 4j}, "a complex number"),
        ({**record, key: (value, value)}, "a tuple"),
        ({**record, key: bytes(100)}, "bytes"),
        ({**record, key: bytearray(100)}, "a bytearray"),
    ]
    changed, about = random.choice(changes)
    protocol = random.choice((2, 2, 3, 4, 5))
    return pickle.dumps(changed, protocol), f"{key.decode()}: {about}, protocol {protocol}"


def _other_binary(place: Place, content: bytes, file: str) -> tuple[bytes, str]:
    random = place.random
    if file.endswith(".txt"):
        text, about = mutate.change_text(random, content.decode())
        return text.encode("utf-8", "surrogatepass"), about
    changed = bytearray(content)
    size = 3073 if "batch" in file else 3074
    place_of = random.randrange(0, len(changed), size)
    changed[place_of] = random.choice((10, 100, 128, 255))
    return bytes(changed), f"a label of {changed[place_of]}"


# Pickles that are made for harm


def pickles(place: Place, known: Bases, number: int) -> Case:
    """Pickles that execute, nest, or ask for memory."""
    canary = str(place.canary).encode()
    call = b"c%s\n(V" + canary + b"\nVw\ntR."
    shell = b"c%s\n(Vtouch " + canary + b"\ntR."
    deep = 2_000_000
    hostile: list[tuple[bytes, str]] = [
        (call % b"builtins\nopen", "builtins.open"),
        (call % b"__builtin__\nopen", "__builtin__.open"),
        (call % b"io\nopen", "io.open"),
        (call % b"_io\nopen", "_io.open"),
        (shell % b"os\nsystem", "os.system"),
        (shell % b"posix\nsystem", "posix.system"),
        (shell % b"subprocess\ngetoutput", "subprocess.getoutput"),
        (shell % b"numpy\nos.system", "numpy.os.system"),
        (shell % b"numpy.core.multiarray\n_reconstruct.__globals__", "a name with dots"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04open\x93(V" + canary + b"\nVw\ntR.", "STACK_GLOBAL"),
        (b"(S'touch " + canary + b"'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'touch " + canary + b"'\no.", "OBJ"),
        (b"cos\nsystem\n(S'touch " + canary + b"'\nt\x81.", "NEWOBJ"),
        (b"ccopyreg\n_reconstructor\n(cos\nsystem\nN(tR.", "copyreg"),
        (b"cfunctools\npartial\n(cos\nsystem\nS'touch " + canary + b"'\ntR.", "functools.partial"),
        (b"cnumpy\ndtype\n}(S'__setstate__'\ncos\nsystem\nsb.", "BUILD of a type"),
        (b"ccodecs\nencode\n(Vabc\nVlatin1\ntR.", "codecs.encode"),
        (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "_codecs.encode of another encoding"),
        (b"(" * deep + b"t" * deep + b".", "tuples two million deep"),
        (b")" + b"\x85" * deep + b".", "tuples of one two million deep"),
        (b"]" * deep + b"a" * (deep - 1) + b".", "lists two million deep"),
        (b"}" + b"(K\x01}" * 400_000 + b"u" * 400_000 + b".", "dictionaries 400,000 deep"),
        (b")" + b"\x85" * 100_000 + b".", "tuples 100,000 deep"),
        (b"}" + b")" + b"\x85" * deep + b"Ns.", "a key that is a tuple two million deep"),
        (b"}Vdata\n" + b")" + b"\x85" * deep + b"s.", "a value that is a tuple two million deep"),
        (b"cnumpy\ndtype\n)" + b"\x85" * deep + b"R.", "a type of a tuple two million deep"),
        (b"cnumpy\ndtype\n(tR)" + b"\x85" * deep + b"b.", "a state that is a tuple two million deep"),
        (b"\x80\x04\x8f(" + b")" + b"\x85" * deep + b"\x90.", "a set of a tuple two million deep"),
        (b"}V1\n" + b")" + b"\x85" * 500_000 + b"s.", "a dictionary of a deep tuple"),
        (b"N" + b"r" + (2**31 - 2).to_bytes(4, "little") + b"N.", "a memo of 2^31"),
        (b"Nr\xff\xff\xff\x0f.", "a memo of 2^28"),
        (b"Nr\xff\xff\xff\xff.", "a memo of 2^32"),
        (b"N" + b"p99999999999\n.", "a memo of 10^11"),
        (b"N" + b"p" + b"9" * 5000 + b"\n.", "a memo of 5,000 digits"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"a.", "bytes of 2^62"),
        (b"\x80\x04\x8e" + (3 * 2**30).to_bytes(8, "little") + b"a.", "bytes of 3 GiB"),
        (b"\x80\x05\x96" + (3 * 2**30).to_bytes(8, "little") + b"a.", "a bytearray of 3 GiB"),
        (b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"a.", "a bytearray of 2^62"),
        (b"\x80\x04\x8d" + (3 * 2**30).to_bytes(8, "little") + b"a.", "text of 3 GiB"),
        (b"B\xff\xff\xff\x7fa.", "bytes of 2 GiB"),
        (b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.", "a frame of 2^62"),
        (b"\x8b\xff\xff\xff\x7f" + b"1" * 10 + b".", "a number of 2^31 bytes"),
        (b"I" + b"9" * 100_000 + b"\n.", "a number of 100,000 digits"),
        (b"L" + b"9" * 5000 + b"L\n.", "a long number of 5,000 digits"),
        (b"V\\ud800\n.", "a lone surrogate"),
        (b"P1\n.", "an object of somewhere else"),
        (b"\x82\x01.", "an extension"),
        (b"]" + b"2" * 500_000 + b".", "a stack of 500,000"),
        (b"(" + b"]" * 500_000 + b"l.", "a list of 500,000 lists"),
        (b"]q\x00(" + b"h\x00" * 10 + b"eq\x01.", "a list of itself"),
        (b"cnumpy\nndarray\n(K\x00\x85cnumpy\ndtype\ntR.", "an array called by hand"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tS'b'\ntR(K\x01(I1000000000\nI1000000000\ntN\x88S''\ntb.",
            "10^18 numbers",
        ),
        (b".", "a stop alone"),
        (b"N" * 1000 + b".", "a thousand nones"),
        (b"0.", "a pop of nothing"),
    ]
    content, about = hostile[number % len(hostile)]
    name = place.random.choice(("cifar10", "cifar100"))
    files = bases.cifar_pickles(name)
    file = place.random.choice(list(files))
    inside = b"N" in content or number >= len(hostile)
    if number >= len(hostile) and not content.startswith(b"\x80") and inside:
        content, about = b"}V%s\n" % b"data" + content[:-1] + b"s.", f"{about}, as a value"
    files[file] = content
    return _case(place, name, files, f"{name}, {file}: {about}")


# Archives


def archives(place: Place, known: Bases, number: int) -> Case:
    """Archives that are damaged or made for harm."""
    random = place.random
    name = random.choice(("cifar10", "cifar100"))
    files = bases.cifar_binary(name) if random.random() < 0.7 else bases.cifar_pickles(name)
    if number < 16:
        content, about, kind = _special_archive(files, number)
        must_refuse = ""
    else:
        kind = random.choice(list(COMPRESSIONS))
        content = bases.tar(files, COMPRESSIONS[kind])
        good = content
        if random.random() < 0.6:
            content, about = mutate.flip(random, content), "a bit flipped"
        else:
            content, about = mutate.change_bytes(random, content)
        must_refuse = _damaged(content, good, COMPRESSIONS[kind])
    path = f"data{kind}"
    (place.work / path).write_bytes(content)
    return Case(
        f"{path}: {name}, {about}", Command(_reader(place, name, path)), ("sheet.png", "tree.json"), must_refuse
    )


def _damaged(content: bytes, good: bytes, compression: str) -> str:
    """Why an archive cannot be taken: its checksum is another, or it is cut off, and its content is not as it was."""
    if not compression:
        return ""
    unfold = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}[compression]
    try:
        unfold(content)
    except Exception as error:  # whatever a broken one leads to
        with io.BytesIO(content) as file:
            try:
                whole = file.read() == good
            except OSError:
                whole = False
        return "" if whole else f"{compression} does not unfold it: {error}"
    return ""


def _special_archive(files: dict[str, bytes], number: int) -> tuple[bytes, str, str]:
    first = next(iter(files))
    content = io.BytesIO()
    kind = ".tar.gz" if number < 3 else ".tar"
    if number < 3:
        names = (
            ("data/other",) if number == 1 else tuple(f"data/{name}" for name in list(files)[: 1 if number == 0 else 3])
        )
        parts: list[bytes | int] = []
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3 * 2**30 // len(names)
            parts += [member.tobuf(), member.size // 2**20]
        rest = io.BytesIO(bases.tar(files))
        stream, checksum, size = bases.deflated([*parts, rest.getvalue()])
        ending = checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
        about = ("a member of 3 GiB", "3 GiB in a member that nobody asks for", "three members of 1 GiB")[number]
        return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + stream + ending, about, kind
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"data/{name}")
            member.size = len(data)
            payload = data
            if name == first:
                changes: list[tuple[dict[str, Any], str]] = [
                    ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}, "a link to /etc/passwd"),
                    ({"type": tarfile.LNKTYPE, "linkname": "data/" + list(files)[1], "size": 0}, "a hard link"),
                    ({"type": tarfile.LNKTYPE, "linkname": f"data/{first}", "size": 0}, "a hard link to itself"),
                    ({"type": tarfile.FIFOTYPE, "size": 0}, "a pipe"),
                    ({"type": tarfile.CHRTYPE, "size": 0, "devmajor": 1, "devminor": 5}, "/dev/zero"),
                    ({"type": tarfile.DIRTYPE, "size": 0}, "a folder"),
                    ({"name": f"/{first}"}, "a path from the root"),
                    ({"name": f"../../{first}"}, "a path upwards"),
                    ({"name": f"data/two\nlines\x1b[31m/{first}"}, "a path with ESC"),
                    ({"size": 2**33}, "8 GiB announced"),
                    ({"name": "x" * 5000 + f"/{first}"}, "a path of 5,000 letters"),
                    ({"size": 0}, "no bytes"),
                    ({"type": tarfile.GNUTYPE_SPARSE}, "a sparse one"),
                ]
                fields, about = changes[number - 3]
                for field, value in fields.items():
                    setattr(member, field, value)
                if member.size != len(data):
                    payload = b""
                if member.size == 2**33:
                    archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
                    continue
            archive.addfile(member, io.BytesIO(payload) if member.size else None)
    return content.getvalue(), f"{first}: {about}", kind
