# SPDX-License-Identifier: LGPL-2.1-or-later
"""Broken rules as text: each is put into its source alone, and a test that cannot find it is no test.

A file of defects has blocks with an empty line between them. `file PATH` says where the defects after it go. Any other block
is a defect: its rule and what is wrong, then lines with - (text that is in the file once) and with + (what stands there
instead). A line with @ has words for the program that shall find it: where to look. Lines with # are comments. Nothing in the tree is changed: the one source is compiled from a scratch directory.
"""
import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Defect:
    def __init__(self, path, title, edits, where):
        self.path, self.title, self.edits, self.where = path, title, edits, where

    def source(self):
        text = (ROOT / self.path).read_text()
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{old!r} is {text.count(old)} times in {self.path}, not once")
            text = text.replace(old, new)
        return text


def edits_of(lines):
    edits, old, new = [], [], []
    for line in lines:
        if line[0] not in "-+":
            raise ValueError(f"{line!r} begins with neither - nor +")
        if line[0] == "-" and new:
            edits.append(("\n".join(old), "\n".join(new)))
            old, new = [], []
        (old if line[0] == "-" else new).append(line[1:])
    return [*edits, ("\n".join(old), "\n".join(new))]


def read_defects(path):
    target = None
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    for block in re.split(r"\n\n+", text.strip()):
        title, *lines = block.split("\n")
        if title.startswith("file "):
            target = title[5:]
        else:
            where = [word for line in lines if line[0] == "@" for word in shlex.split(line[1:])]
            yield Defect(target, title, edits_of([line for line in lines if line[0] != "@"]), where)


def read_folder(folder, words):
    """Those of all files in it whose line has the words."""
    defects = [defect for path in sorted(pathlib.Path(folder).iterdir()) for defect in read_defects(path)]
    return [defect for defect in defects if words in defect.title]


def flags(kind, packages):
    return subprocess.run(["pkg-config", kind, *packages], check=True, capture_output=True, text=True).stdout.split()


class Bench:
    """Compiles a program, and again with one source exchanged."""

    def __init__(self, folder, sources, packages, cflags=(), libs=()):
        self.folder, self.sources = pathlib.Path(folder), sources
        self.cflags = ["-O1", "-w", f"-I{ROOT}", *cflags, *flags("--cflags", packages)]
        self.libs = [*libs, *flags("--libs", packages)]
        self.objects = {}

    def compile(self, source, name):
        target = self.folder / f"{name}.o"
        subprocess.run(["cc", *self.cflags, "-c", source, "-o", target], check=True)
        return target

    def build(self, pool):
        made = pool.map(lambda source: self.compile(source, str(source.relative_to(ROOT)).replace("/", "-")), self.sources)
        self.objects = dict(zip((str(source.relative_to(ROOT)) for source in self.sources), made))

    def link(self, objects, name):
        program = self.folder / name
        subprocess.run(["cc", *objects, "-o", program, *self.libs], check=True)
        return program

    def compile_with(self, number, defect):
        """The object of the source that has it."""
        name = f"defect-{number}"
        source = self.folder / f"{name}.c"
        source.write_text(defect.source())
        return self.compile(source, name)

    def with_defect(self, number, defect):
        """The program that has it."""
        return self.link({**self.objects, defect.path: self.compile_with(number, defect)}.values(), f"defect-{number}")


def fits(defects, make_bench):
    """Sees that each of them, alone, is text of its source and compiles. Returns the exit status."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor() as pool:
        bench = make_bench(folder)
        tries = [pool.submit(bench.compile_with, number, defect) for number, defect in enumerate(defects)]
        for defect, future in zip(defects, tries):
            try:
                future.result()
            except (ValueError, subprocess.CalledProcessError) as error:
                bad += 1
                print(f"FAIL {defect.title}\n       {error}")
    print(f"{len(defects) - bad} of {len(defects)} defects fit")
    return 1 if bad else 0


def run(program, arguments, timeout=600):
    """Status and output of a program, which is gone then; status None: it hangs."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout)
        return done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        return None, "", ""
    finally:
        program.unlink()


def verdict(future):
    try:
        found = future.result()
    except (ValueError, subprocess.CalledProcessError) as error:
        return False, f"DOES NOT FIT: {error}"
    return found is not None, found or "NOT FOUND"


def try_all(defects, make_bench, find, workers=os.cpu_count()):
    """Prints what becomes of each; find(program, where) says what it found or None. Returns the exit status."""
    begin, missed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(workers) as pool:
        bench = make_bench(folder)
        bench.build(pool)
        wrong = find(bench.link(bench.objects.values(), "no-defect"), [])
        if wrong is not None:
            print(f"without any defect: {wrong}")
            return 1
        tries = [pool.submit(lambda n, d: find(bench.with_defect(n, d), d.where), number, defect)
                 for number, defect in enumerate(defects)]
        for defect, future in zip(defects, tries):
            good, text = verdict(future)
            missed += not good
            print(f"{'ok  ' if good else 'FAIL'} {defect.title}\n       {text}", flush=True)
    print(f"{len(defects) - missed} of {len(defects)} defects are found, in {time.monotonic() - begin:.0f} s")
    return 1 if missed else 0
