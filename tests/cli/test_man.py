# SPDX-License-Identifier: LGPL-2.1-or-later
"""K5: the manual pages say what the program, its tables and docs/model.md say, and mandoc and man-db find no fault with them."""
import json
import os
import re
import subprocess

import pytest

from program import BINARY, TOP, USAGE, Program
from test_help import ALL

MAN = os.path.join(TOP, "packaging/man")
MODEL = os.path.join(TOP, "docs/model.md")
SCHEMA = os.path.join(TOP, "docs/model.schema.json")
DATE = "2026-11-23"
PAGES = ("virt-reimage.1", "virt-reimage.conf.5", "virt-reimage-set.5", "virt-reimaged.8")
# Between the daemon and its jobs, and for tests: nobody sets these by hand.
INTERNAL = {"VIRT_REIMAGE_ERROR_JSON", "VIRT_REIMAGE_JOB", "VIRT_REIMAGE_JOB_ROOT", "VIRT_REIMAGE_TEST_CLOCK", "PATH"}


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def model_page(model=MODEL):
    return run(os.path.join(MAN, "model-page"), model, SCHEMA, "0.1.0", DATE)


def one_line(text):
    return " ".join(text.split())


@pytest.fixture(name="pages", scope="module")
def fixture_pages(tmp_path_factory):
    """Their sources, as the build makes them (packaging/man/CMakeLists.txt)."""
    folder = tmp_path_factory.mktemp("man")
    for page in ("virt-reimage.1", "virt-reimage.conf.5"):
        (folder / page).write_text(run(BINARY, "help", "--man", page, DATE))
    (folder / "virt-reimage-set.5").write_text(model_page())
    with open(os.path.join(MAN, "virt-reimaged.8.in"), encoding="utf-8") as file:
        (folder / "virt-reimaged.8").write_text(file.read().replace("@VR_MAN_DATE@", DATE).replace("@PROJECT_VERSION@", "0.1.0"))
    return folder


def rendered(path):
    """What a reader sees, in long lines and without overstrikes."""
    return re.sub(r".\x08", "", run("mandoc", "-Tutf8", "-Owidth=1000", str(path)))


@pytest.mark.parametrize("page", PAGES)
def test_no_fault_is_found(pages, page):
    assert run("mandoc", "-Tlint", "-Wwarning", str(pages / page)) == ""
    shown = subprocess.run(["man", "-l", str(pages / page)], capture_output=True, text=True, check=True,
                           env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
    assert "error" not in shown.stderr and len(shown.stdout.splitlines()) > 30
    name = page.rpartition(".")[0]
    assert f'"{name} - ' in run("lexgrog", str(pages / page))  # for apropos
    assert DATE in rendered(pages / page)


# --- virt-reimage(1) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ALL)
def test_each_command_as_its_help_has_it(pages, command):
    text = one_line(rendered(pages / "virt-reimage.1"))
    told = run(BINARY, command, "--help")
    usage, rest = told.split("\n\n", 1)
    words, options = rest.split("\nOptions:\n")
    options, example = options.split("\nExample:\n")
    begin = text.index(" " + usage.removeprefix("usage: virt-reimage ").removesuffix(" [OPTION…]") + " " + one_line(words.split("\n")[0]))
    part = text[begin:text.index(one_line(example), begin)]
    for paragraph in words.split("\n\n"):
        assert one_line(paragraph) in part
    for option in options.splitlines():
        if option.startswith("  "):
            assert one_line(option) in part
        elif not option.startswith("and the global"):  # the text of one whose name is long
            pytest.fail(option)


def test_what_holds_for_all_commands(pages):
    text = one_line(rendered(pages / "virt-reimage.1"))
    told = run(BINARY, "--help")
    for group in ("Images", "Scale sets", "Runs", "What is and was", "Host"):
        assert f" {group} " in text
    for letter, option in re.findall(r"^  (?:-(\w), |    )--(\w+)", told, re.MULTILINE):
        assert (f"-{letter}, --{option}" if letter else f"--{option}") in text
    exits = text[text.index("EXIT STATUS 0 done"):text.index("ENVIRONMENT")]
    assert [number for number in re.findall(r"(?:^| )(\d) [a-z]", exits)] == list("01234567")
    assert "complete WORD" not in text  # which is for shells


def test_the_environment(pages):
    """Every variable that the program asks for is told, or is no business of anybody."""
    asked = set()
    for folder in ("base", "disk", "hv", "engine", "orchestrator"):
        for path, _, names in os.walk(os.path.join(TOP, folder)):
            for name in (name for name in names if name.endswith(".c")):
                with open(os.path.join(path, name), encoding="utf-8") as file:
                    asked.update(re.findall(r'getenv\("(\w+)"\)', file.read()))
    told = "".join(rendered(pages / page) for page in PAGES)
    assert asked and {name for name in asked - INTERNAL if name not in told} == set()


def test_a_page_that_there_is_not():
    program = Program("/nonexistent", "/nonexistent")
    assert "virt-reimage.1" in program("help", "--man", status=USAGE).error()
    assert "virt-reimage.1" in program("help", "--man", "virt-reimage.7", DATE, status=USAGE).error()


# --- virt-reimage.conf(5), virt-reimaged(8) ---------------------------------------------------------------


def test_the_keys_of_the_configuration(pages):
    with open(os.path.join(TOP, "orchestrator/config.c"), encoding="utf-8") as file:
        keys = re.findall(r'\{\{"(\w+)", "(\w+)", "(\w+)", "([^"]*)"', file.read())
    text = rendered(pages / "virt-reimage.conf.5")
    assert len(keys) > 8
    for group, key, value, initial in keys:
        part = text.split(f"[{group}]\n")[1].split("[")[0]
        assert f"{key}={value}" in part
        assert not initial or f"default: {initial}." in one_line(part)
    with open(os.path.join(TOP, "packaging/virt-reimage.conf"), encoding="utf-8") as file:
        shipped = re.findall(r"^(?:\[(\w+)\]|#(\w+)=(.*))$", file.read(), re.MULTILINE)
    group, there = "", []
    for head, key, value in shipped:
        group = head or group
        there += [(group, key, value)] if key else []
    assert sorted(there) == sorted((group, key, initial) for group, key, _, initial in keys), "each key is there with its default"


def test_the_options_of_the_daemon(pages):
    told = run(f"{BINARY}d", "--help")
    text = rendered(pages / "virt-reimaged.8")
    for letter, option in re.findall(r"^  (?:-(\w), )?--([\w-]+(?:=\w+)?)", told, re.MULTILINE):
        assert re.search(rf"^ +{f'-{letter}, ' if letter else ''}--{option}$", text, re.MULTILINE), option
    with open(os.path.join(TOP, "orchestrator/daemon/service.c"), encoding="utf-8") as file:
        taken = set(re.findall(r"g_unix_signal_add\((\w+)", file.read()))
    assert taken and taken <= set(re.findall(r"SIG\w+", text[text.index("SIGNALS"):text.index("EXIT STATUS")]))
    exits = one_line(told).split("Exit status: ")[1]
    assert re.findall(r"(\d) [a-z]", exits) == re.findall(r"^ +(\d) ", text[text.index("EXIT STATUS"):text.index("ENVIRONMENT")], re.MULTILINE)


# --- virt-reimage-set(5) ----------------------------------------------------------------------------------


def paths_of(schema, prefix=""):
    for name, value in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        for inner in [value, *value.get("anyOf", []), *value.get("oneOf", [])]:
            yield from paths_of(inner, path)
            yield from paths_of(inner.get("items", {}), path + "[]")


def entries_of(page):
    """The keys that have an entry, each with its words."""
    section = page.split(".SH KEYS\n")[1].split("\n.SH ")[0]
    found = {}
    for entry in section.split(".TP\n")[1:]:
        names, text = entry.split("\n", 1)
        for name in re.findall(r"\\fB([^\\]+(?:\\-[^\\]+)*)\\fR", names):
            found[name.replace("\\-", "-")] = re.sub(r"\\f[BIR]", " ", text.split("\n.PP")[0])
    return found


def missing_keys(page):
    """Keys of the schema, which tests/orchestrator holds against the parser's own table, of which the page has neither an entry nor a word."""
    entries = entries_of(page)
    with open(SCHEMA, encoding="utf-8") as file:
        paths = set(paths_of(json.load(file)))
    assert len(paths) > 100
    missing = set()
    for path in paths - entries.keys():
        if any(other.startswith((path + ".", path + "[]")) for other in entries):
            continue  # a section, whose keys have entries
        parents = [path[:match.start()] for match in re.finditer(r"\[\]\.|\.", path)]
        if not any(re.search(rf"\b{path.rpartition('.')[2]}\b", entries.get(parent, "") + entries.get(parent + "[]", "")) for parent in parents):
            missing.add(path)
    return missing


def test_every_key_of_the_model():
    assert missing_keys(model_page()) == set()


@pytest.mark.parametrize("key", ["`retention.runs`", "`….numberOfProbes`", "`instances[].pair`"])
def test_a_key_that_is_not_told_is_missed(tmp_path, key):
    model = tmp_path / "model.md"
    with open(MODEL, encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith(f"| {key} ")]
    model.write_text("".join(lines))
    assert [path.rpartition(".")[2] for path in missing_keys(model_page(str(model)))] == [re.search(r"(\w+)`", key)[1]]


def test_a_key_that_there_is_not_is_an_error(tmp_path):
    model = tmp_path / "model.md"
    with open(MODEL, encoding="utf-8") as file:
        model.write_text(file.read().replace("| `retention.runs` |", "| `retention.walks` |"))
    done = subprocess.run([os.path.join(MAN, "model-page"), str(model), SCHEMA, "0.1.0", DATE], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "retention.walks" in done.stderr


def test_all_of_the_text_about_the_model(pages):
    """Each word of docs/model.md is in the page, in its order: nothing fell out on the way."""
    with open(MODEL, encoding="utf-8") as file:
        text = file.read().split("\n", 1)[1]
    text = re.sub(r"^```\w*$", "", text, flags=re.MULTILINE)
    prose = [line for line in text.splitlines() if not line.startswith("|")]  # tables have their own form
    words = re.findall(r"[A-Za-z]{3,}", re.sub(r"\]\([^)]*\)", "]", " ".join(prose)))
    seen = iter(re.findall(r"[a-z]{3,}", rendered(pages / "virt-reimage-set.5").lower()))
    for i, word in enumerate(words):
        assert word.lower() in seen, " ".join(words[max(0, i - 10):i + 1])
