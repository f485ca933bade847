"""Bad files of trees, in every format, and of what trees are built from."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from campaign import bases, mutate
from campaign.bases import Bases
from campaign.case import Case, Command, Place

PARENT = [5, 5, 6, 6, 6, 7, 7, -1]
NESTED = {"all": {"pet": {"cat": 0, "dog": 1}, "thing": {"car": 2, "cup": 3, "box": 4}}}
FILES = {
    "tree.json": json.dumps(
        {
            "format": "softmaxes.tree",
            "version": 1,
            "parent": PARENT,
            "names": ["cat", "dog", "car", "cup", "box", "pet", "thing", "all"],
        }
    ),
    "edges.csv": "parent,child\npet,cat\npet,dog\nall,pet\nall,thing\nthing,car\nthing,cup\nthing,box\n",
    "nested.json": json.dumps(NESTED),
    "nbdt.json": json.dumps(
        {
            "directed": True,
            "multigraph": False,
            "graph": {},
            "nodes": [{"label": f"n{node}", "id": f"f{node:08d}"} for node in range(8)],
            "links": [{"source": f"f{above:08d}", "target": f"f{node:08d}"} for node, above in enumerate(PARENT[:7])],
        }
    ),
    "napkin.txt": "5 8\n-1 0\n0 1\n0 2\n1 3 0\n1 4 1\n2 5 2\n2 6 3\n2 7 4\n",
}


def trees(place: Place, bases: Bases, number: int) -> Case:
    """A file with a tree, and what reads it."""
    special = _special(number % (2 * SPECIALS))
    if special is not None:
        name, content, about = special
    else:
        name = place.random.choice(list(FILES))
        content, about = _changed(place, name)
    words = ["tree", "compare", name, name] if number in CHAINS else _reader(place, name)
    (place.work / name).write_bytes(content)
    (place.work / "good.json").write_text(FILES["tree.json"])
    return Case(f"{name}: {about}", Command(words), writes=("out.json", "out.csv", "out.html", "out.txt"))


def _changed(place: Place, name: str) -> tuple[bytes, str]:
    text = FILES[name]
    how = place.random.random()
    if how < 0.25:
        return mutate.change_bytes(place.random, text.encode())
    if how < 0.32:
        encoding = place.random.choice(("utf-16", "utf-8-sig", "utf-32", "latin-1"))
        return text.replace("cat", "kät").encode(encoding), f"in {encoding}"
    changed, about = (mutate.change_json if name.endswith(".json") else mutate.change_text)(place.random, text)
    return changed.encode("utf-8", "surrogatepass"), about


def _reader(place: Place, name: str) -> list[str]:
    kind = ["--format", "napkinxc"] if name.endswith(".txt") else []
    source = ["--source-format", "napkinxc"] if kind else []
    verbs: list[list[str]] = [
        ["tree", "show", name, *kind],
        ["tree", "show", name, *kind, "--out", "out.html"],
        ["tree", "export", name, *source, "--out", "out.csv"],
        [
            "tree",
            "export",
            name,
            *source,
            "--out",
            "out.json",
            "--format",
            place.random.choice(("json", "nested", "nbdt")),
        ],
        ["tree", "export", name, *source, "--out", "out.txt", "--format", "napkinxc"],
    ]
    if not kind:
        verbs += [["tree", "compare", name, "good.json"], ["tree", "compare", "good.json", name, name]]
    return place.random.choice(verbs)


def _own(parent: Sequence[Any], names: Any = None) -> bytes:
    return json.dumps({"format": "softmaxes.tree", "version": 1, "parent": parent, "names": names}).encode()


def _chain(levels: int) -> list[int]:
    """Nodes below each other: a class and a node at every level."""
    classes = levels + 1
    nodes = list(range(classes, classes + levels))  # from the root down
    return [*nodes, nodes[-1], -1, *nodes[:-1]]


SPECIALS = 32
CHAINS = (0, 1, 2)  # of them


def _special(number: int) -> tuple[str, bytes, str] | None:
    deep = 10_000
    found: list[tuple[str, bytes, str]] = [
        ("tree.json", _own(_chain(deep)), "a chain of 10,000 levels"),
        ("tree.json", _own(_chain(1500)), "a chain of 1,500 levels"),
        (
            "edges.csv",
            ("parent,child\n" + "".join(f"{n},{n + 1}\n{n},leaf{n}\n" for n in range(deep))).encode(),
            "a chain",
        ),
        ("nested.json", b'{"a":' * deep + b"{}" + b"}" * deep, "10,000 deep"),
        ("nested.json", b'{"a":' * 900 + b'{"b":0,"c":1}' + b"}" * 900, "900 deep, with a single child each"),
        ("tree.json", b"[" * 1_000_000, "a million brackets"),
        ("tree.json", _own([1, 0]), "a ring"),
        ("tree.json", _own([0, 0, 0]), "a node above itself"),
        ("tree.json", _own([2, 2, -1], ["a", "a", "b"]), "a name twice"),
        ("tree.json", _own([2, 2, -1], ["a", 1, None]), "names that are none"),
        ("tree.json", _own([2.0, 2.0, -1.0]), "floats"),
        ("tree.json", _own([True, True, -1]), "truths"),
        ("tree.json", _own([10**18, 10**18, -1]), "a parent of 10^18"),
        ("tree.json", _own([10**30, 10**30, -1]), "a parent of 10^30"),
        (
            "tree.json",
            b'{"format":"softmaxes.tree","version":1' + b"0" * 5000 + b',"parent":[2,2,-1]}',
            "a long version",
        ),
        ("tree.json", b'{"format":"softmaxes.tree","version":NaN,"parent":[2,2,-1],"names":null}', "a version of NaN"),
        ("tree.json", b'{"format":"softmaxes.tree","version":1,"parent":[2,2,-1],"parent":[1,-1]}', "parents twice"),
        ("edges.csv", b"parent,child\n" + b"a," + b"x" * 200_000 + b"\na,y\n", "a cell of 200,000 letters"),
        ("edges.csv", b'parent,child\na,"b\n' + b"c,d\n" * 1000, "a quote that is not closed"),
        ("edges.csv", b"parent,child\na,b\0c\na,d\n", "NUL"),
        ("edges.csv", b"parent,child\ra,b\ra,d\r", "lines of old"),
        ("edges.csv", b"child\na\n", "one column"),
        ("edges.csv", b"parent,child,parent\na,b,c\n", "a column twice"),
        ("edges.csv", b"parent,child\n", "a header alone"),
        ("edges.csv", b"parent,child\n=1+1,@a\n=1+1,-b\n", "formulas for names"),
        ("napkin.txt", b"5 8\n" + b"9" * 5000 + b" 1 2\n", "a number of 5,000 digits"),
        ("napkin.txt", "٥ ٨\n-١ ٠\n".encode(), "digits of another script"),
        ("napkin.txt", b"1 1\n-1 0 0\n", "one class"),
        ("napkin.txt", b"99999999999999999 99999999999999999\n-1 0\n0 1 0\n0 2 1\n", "10^17 classes announced"),
        ("nbdt.json", b'{"nodes":[{"id":"a"},{"id":"b"}],"links":[{"source":"a","target":"b"}]}', "one leaf"),
        ("nbdt.json", b'{"nodes":[{"id":"a"},{"id":["b"]}],"links":[]}', "a list for an id"),
        ("nbdt.json", b'{"nodes":[{"id":1e400},{"id":true}],"links":[]}', "infinity for an id"),
    ]
    return found[number] if number < len(found) else None


def tables(place: Place, bases: Bases, number: int) -> Case:
    """Counts, paths, vectors and results, from which `tree build` makes trees."""
    makers = (_counts, _paths, _vectors, _weights)
    words, about = makers[number % len(makers)](place)
    return Case(about, Command(["tree", "build", *words, "--out", "out.json"]), writes=("out.json",))


def _counts(place: Place) -> tuple[list[str], str]:
    pick = place.random.choice
    if place.random.random() < 0.5:
        arrays: list[tuple[bytes, str]] = [
            (bases.npy(np.array([[1, 2], [3, 4]])), "counts in rows"),
            (bases.npy(np.array(5)), "a single number"),
            (bases.npy(np.array([], dtype=np.int64)), "no counts"),
            (bases.npy(np.array([1, -5, 3])), "a count below zero"),
            (bases.npy(np.array([1.0, np.nan, 3])), "NaN"),
            (bases.npy(np.array([np.inf, 2, 3])), "infinity"),
            (bases.npy(np.array([2**63 - 1] * 3)), "counts whose sum overflows"),
            (bases.npy(np.array([2**64 - 1] * 3, dtype=np.uint64)), "counts of 64 bits"),
            (bases.npy(np.array([1e308] * 3)), "counts of 1e308"),
            (bases.npy(np.array([0, 0, 0])), "zeros"),
            (bases.npy(np.array([1, 2, 3], dtype=">i8")), "numbers the other way round"),
            (bases.npy(np.array([True, False])), "truths"),
            (bases.npy(np.array([1 + 2j])), "complex numbers"),
            (bases.npy(np.array([1, 2], dtype=np.float16)), "half floats"),
            (bases.npy(np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])), "records"),
            (bases.npy_of("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"), "10^12 announced"),
            (bases.npy_of("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }"), "a length below zero"),
            (bases.npy_of("(" * 3000), "brackets for a header"),
            (
                bases.npy_of("{'descr': '<i8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }"),
                "a long length",
            ),
            mutate.change_bytes(place.random, bases.npy(np.arange(1, 9))),
        ]
        content, about = pick(arrays)
        (place.work / "counts.npy").write_bytes(content)
        return ["huffman", "--counts", "counts.npy"], f"counts.npy: {about}"
    if place.random.random() < 0.3:
        data, about = mutate.change_bytes(place.random, b"5\n3\n2\n8\n1\n")
    else:
        text, about = mutate.change_text(place.random, "5\n3\n2\n8\n1\n")
        data = text.encode("utf-8", "surrogatepass")
    (place.work / "counts.txt").write_bytes(data)
    return ["huffman", "--counts", "counts.txt"], f"counts.txt: {about}"


def _paths(place: Place) -> tuple[list[str], str]:
    text = "animal/mammal/dog\nanimal/mammal/cat\nanimal/bird/owl\nplant/oak\nplant/elm\n"
    deep = "/".join(["a"] * 5000)
    specials = [
        (f"{deep}/b\n{deep}/c\n".encode(), "5,000 deep"),
        (b"\n\n\n", "empty lines"),
        (b"///\n//\n", "slashes alone"),
        (b"a/b\na/b\n", "a path twice"),
        (b"a\na/b\n", "a class above another"),
        (b"a/\0\nb\n", "NUL"),
        (b"\xff\xfe", "no UTF-8"),
        (("a/" + "x" * 1_000_000 + "\nb\n").encode(), "a name of a million letters"),
    ]
    how = place.random.random()
    if how < 0.3:
        data, about = place.random.choice(specials)
    elif how < 0.5:
        data, about = mutate.change_bytes(place.random, text.encode())
    else:
        changed, about = mutate.change_text(place.random, text)
        data = changed.encode("utf-8", "surrogatepass")
    (place.work / "paths.txt").write_bytes(data)
    return ["paths", "--paths", "paths.txt"], f"paths.txt: {about}"


def _vectors(place: Place) -> tuple[list[str], str]:
    good = np.random.default_rng(0).normal(size=(6, 3))
    holes = good.copy()
    holes[2, 1] = np.nan
    method = place.random.choice(("clustered", "agglomerative"))
    content, about = place.random.choice(
        [
            (bases.npy(holes), "NaN"),
            (bases.npy(good * np.inf), "infinities"),
            (bases.npy(np.sign(good) * 1e308), "numbers near the largest"),
            (bases.npy(good.astype(np.float16)), "half floats"),
            (bases.npy(good[0]), "one row"),
            (bases.npy(good[:1]), "one vector"),
            (bases.npy(good[:, :0]), "no columns"),
            (bases.npy(good[:0]), "no rows"),
            (bases.npy(np.zeros((6, 3))), "vectors that are all alike"),
            (bases.npy(good[None]), "a dimension too many"),
            (bases.npy((good * 10).astype(np.int64)), "whole numbers"),
            (bases.npy(np.full((4, 2), 2**63, dtype=np.uint64)), "numbers of 64 bits"),
            (bases.npy(np.asfortranarray(good)), "columns first"),
            (bases.npy(good.astype(">f8")), "numbers the other way round"),
            (bases.npy_of("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000), }"), "8 TB announced"),
            (bases.npy_of("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n."), "objects"),
            (bases.npz({"a.npy": bases.npy(good)}), "a zip file"),
            mutate.change_bytes(place.random, bases.npy(good)),
            mutate.change_bytes(place.random, bases.npy(good)),
        ]
    )
    (place.work / "vectors.npy").write_bytes(content)
    return [method, "--vectors", "vectors.npy"], f"vectors.npy: {about}"


def _weights(place: Place) -> tuple[list[str], str]:
    import torch
    from safetensors.torch import save

    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))

    def headed(text: bytes, rest: bytes = b"") -> bytes:
        return len(text).to_bytes(8, "little") + text + rest

    content, about = place.random.choice(
        [
            (save({"head.weight": weight[0].clone()}), "one row"),
            (save({"head.weight": weight, "head.parent": weight.clone()}), "a tree's weights"),
            (save({"other": weight}), "another tensor"),
            (save({"head.weight": weight * float("nan")}), "NaN"),
            (save({"head.weight": weight.to(torch.bfloat16)}), "bfloat16"),
            (save({"head.weight": weight > 0}), "truths"),
            (save({"head.weight": weight[:0].clone()}), "no rows"),
            (save({"head.weight": torch.randn(2, 3, 4)}), "three dimensions"),
            (save({"head.weight": (weight * 9).long()}), "whole numbers"),
            ((2**62).to_bytes(8, "little") + b"{}", "a header of 2^62 bytes announced"),
            (headed(b"[" * 100_000), "brackets for a header"),
            (
                headed(b'{"head.weight":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4]}}', b"0000"),
                "4 TB",
            ),
            (headed(b'{"head.weight":{"dtype":"F32","shape":[0,1000],"data_offsets":[0,0]}}'), "no rows of 1,000"),
            mutate.change_bytes(place.random, save({"head.weight": weight})),
            mutate.change_bytes(place.random, save({"head.weight": weight})),
        ]
    )
    (place.work / "run.safetensors").write_bytes(content)
    method = place.random.choice(("clustered", "agglomerative"))
    return [method, "--vectors", "run.safetensors"], f"run.safetensors: {about}"
