# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/guides and the README tell one to type is typed here, on real guests, and says what they show (guide.py).

Every other command of virt-reimage that any page shows is known to the program, with its options and as many words as it takes.
"""
import glob
import os
import re
import subprocess

import pytest

import guide
from program import BINARY, DONE, TOP
from test_help import ALL

GUIDES = os.path.join(TOP, "docs/guides")
ENDS = {"ends": True}  # an image whose guest powers itself off as soon as it has booted
IMAGES = {"debian-12.qcow2": ("12.1.0", {}), "debian-12-new.qcow2": ("12.2.0", {}), "debian-12-bad.qcow2": ("12.3.0", ENDS),
          "debian-12-mended.qcow2": ("12.3.1", {}), "debian-13.qcow2": ("13.0.0", {}), "new.qcow2": ("12.1.0", {})}
MODEL = """schemaVersion: 1
name: web
imageReference: {name: debian-12, version: latest}
upgradePolicy:
  rollingUpgradePolicy: {maxUnhealthyInstancePercent: 34}
osDisk: {target: vda}
instances:
- {domain: web-0}
- {domain: web-1}
- {domain: web-2}
"""
A_SET = ["virt-reimage image-publish debian-12 12.1.0 debian-12.qcow2", f"cat > web.yaml <<'EOF'\n{MODEL}EOF", "virt-reimage set-define web.yaml",
         *(f"virt-reimage adopt web web-{number} --version 12.1.0" for number in range(3))]
UPGRADED = [*A_SET, "virt-reimage image-publish debian-12 12.2.0 debian-12-new.qcow2", "virt-reimage upgrade web"]

# What each guide takes for granted: how many guests, and what was typed before it begins.
WORLDS = {"quick-start.md": (2, []), "bad-image.md": (3, UPGRADED), "roll-back.md": (3, UPGRADED), "new-release.md": (3, A_SET)}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def host_for(name):
    guests, before = WORLDS[name]
    host = guide.Host(guests, IMAGES)
    return host, before


def test_each_guide_is_here():
    assert sorted(os.path.basename(path) for path in glob.glob(f"{GUIDES}/*.md")) == sorted(WORLDS)


@pytest.mark.parametrize("name", WORLDS)
def test_a_guide(name):
    """K1"""
    host, before = host_for(name)
    with host:
        for command in before:
            said, status = host.shell.type(command)
            assert status == DONE, (command, said)
        host.follow(read(f"{GUIDES}/{name}"))


# --- the README -------------------------------------------------------------------------------------------


def test_the_readme_swaps_and_goes_back_in_ten_commands():
    """K1: with nothing but the README. What it takes to build and install was done by who runs this."""
    section = re.search(r"^## A first swap.*?(?=^## )", read(f"{TOP}/README.md"), re.MULTILINE | re.DOTALL)[0]
    commands = [command for command, _ in guide.steps(section)]
    built = [command for command in commands if re.match(r"sudo (\./packaging/deps|install) ", command)]
    assert len(built) == 2 and len(commands) <= 10
    with guide.Host(1, IMAGES) as host:
        host.follow(section, without=lambda command: command in built)
        booted = host.fleet[0].booted_versions()
        assert booted == ["of your own", "12.1.0", "of your own"]


# --- every other command that a page shows ----------------------------------------------------------------

AT_LEAST = 200  # commands are shown, or what finds them is broken
IN_TEXT = re.compile(r"`([^`\n]+)`")
QUOTED = re.compile(r"'(?:sudo )?virt-reimage ([^'\n]+)'")
TYPED = re.compile(r"(?:^|[\s\"'(])(?:sudo )?virt-reimage +([^\n]+)")
END = re.compile(r"\s+(?:[|#;>]|&&|2>)|['\"]?[|;)]\s|' |`")
GLOBAL = {"-c": 1, "--connect": 1, "-r": 1, "--root": 1, "-q": 0, "--quiet": 0, "--json": 0, "--debug": 0, "-h": 0, "--help": 0}


def pages():
    return [f"{TOP}/README.md", f"{TOP}/vagrant/README.md", *sorted(glob.glob(f"{TOP}/docs/**/*.md", recursive=True))]


def code_and_text(text):
    """The lines of code blocks, fenced and indented, and the rest as one string."""
    code, rest, fenced, before = [], [], False, ""
    for line in text.splitlines():
        fence = line.startswith("```")
        if (fenced or (line.startswith("    ") and (not before.strip() or code and code[-1] == before))) and not fence:
            code.append(line)
        else:
            rest.append(line)
        fenced = fenced != fence
        before = line
    return code, "\n".join(rest)


def commands_of(text):
    """What stands after the name of the program, wherever a page shows that; and `COMMAND ...` of ours in running text."""
    code, rest = code_and_text(text)
    found = [match[1] for line in code for match in TYPED.finditer(line)]
    found += [match[1] for match in QUOTED.finditer(rest)]
    for span in IN_TEXT.findall(rest):
        if span.startswith(("virt-reimage ", "sudo virt-reimage ")):
            found.append(span.split("virt-reimage ", 1)[1])
        elif span.split()[0] in ALL and re.fullmatch(r"[A-Za-z0-9 .|\[\]/…='-]+", span):
            found.append(span)
    return [END.split(one)[0].strip() for one in found]


def spelt_out(words):
    """As one would type it: `[--option]` with the option, `A…` once, and a number where one is meant."""
    words = words.replace("[", "").replace("]", "").replace("…", "").replace("...", "").replace(r"\|", "|")
    words = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", words).split()
    return ["1" if word == "N" else word.split("|")[0] for word in words]


def command_of(words):
    """The command among the words, and those before and after it."""
    skip = 0
    for at, word in enumerate(words):
        if skip:
            skip -= 1
        elif word in GLOBAL:
            skip = GLOBAL[word]
        else:
            return word, words[:at], words[at + 1:]
    return None, words, []


def ask_for_help(*words):
    """The program reads all options before it helps, and does nothing else then."""
    return subprocess.run([BINARY, *words], capture_output=True, text=True, check=False, timeout=60)


def complaint(words):
    """Why the program would not take the words; None when it would."""
    command, before, after = command_of(spelt_out(words))
    if command in (None, "COMMAND", "-V", "--version"):
        return None
    if command == "help":
        return None if after[0] in (*ALL, "COMMAND") else f"no command '{after[0]}'"
    if command not in ALL:
        return f"no command '{command}'"
    asked = ask_for_help(*before, command, "--help", *after)
    if asked.returncode != DONE and after and "missing argument" in asked.stderr:
        asked = ask_for_help(*before, command, "--help", *after, "1")  # an option that a page names without its value
    if asked.returncode != DONE:
        return asked.stderr
    if "--json" in [*before, *after] and "--json" not in asked.stdout:
        return "has no answer in JSON"
    most = re.match(rf"usage: virt-reimage {command}(.*)\[OPTION…\]", asked.stdout)[1].split()
    given = plain_words(asked.stdout, after)
    if len(given) > len(most) and not any("…" in word for word in most):
        return f"takes at most {most}, and not {given}"
    return None


def plain_words(usage, words):
    """Those that are neither an option nor its value."""
    takes = {option for option, value in re.findall(r"^ +(?:-\w, )?(--[a-z-]+) ([A-Z][A-Za-z:]*)(?= )", usage, re.MULTILINE) if value}
    takes |= {option for option, count in GLOBAL.items() if count}
    given, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            given.append(word)
        skip = not skip and word in takes
    return given


def test_every_command_that_a_page_shows_is_known():
    """K1"""
    shown, wrong, known = 0, [], {}
    for path in pages():
        for words in commands_of(read(path)):
            shown += 1
            if words not in known:
                known[words] = complaint(words)
            if known[words]:
                wrong.append(f"{os.path.relpath(path, TOP)}: virt-reimage {words}: {known[words]}")
    assert not wrong, "\n".join(wrong)
    assert shown >= AT_LEAST, shown


@pytest.mark.parametrize("text, words", [
    ("type `virt-reimage upgrade shop --frob` now", "upgrade shop --frob"),
    ("type `sudo virt-reimage uprade shop`", "uprade shop"),
    ("as `status SET INSTANCE` says", "status SET INSTANCE"),
    ("it says 'virt-reimage gc --rigth' then", "gc --rigth"),
    ("so:\n\n    virt-reimage rollback shop --to-generation x  # back\n", "rollback shop --to-generation x"),
    ("so:\n\n```sh\nvirt-reimage -q upgrade shop web-0 2>&1 | logger\n```\n", "-q upgrade shop web-0"),
])
def test_a_command_that_is_not_known_is_found(text, words):
    assert commands_of(text) == [words]
    assert complaint(words)


# --- the runner itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown, said, fits", [
    (["a  b 2.0 s"], ["a b 17 min 03 s", ""], True),
    (["a"], ["a", "b"], False),
    (["a", "b"], ["a"], False),
    (["...", "b", "..."], ["a", "b"], True),
    (["...", "b"], ["b", "a"], False),
    (["a ... c"], ["a b c"], True),
    (["run 20261123-093502-b4cd: 1 of 2"], ["run 20261124-000000-0000: 2 of 2"], False),
    (["...", "a", "...", "a"], ["a", "b", "a"], True),
    ([], ["a"], False),
])
def test_what_is_taken_for_equal(shown, said, fits):
    assert guide.same(shown, said) == fits


def test_a_guide_that_does_not_say_what_comes_fails():
    shell = guide.Shell([])
    host = guide.Host(0, {})
    host.shell = shell
    try:
        host.follow("```console\n# printf 'a\\nb\\n'\na\nb\n# (exit 3)\n# echo $?\n3\n# cat <<'EOF'\n> c\n> EOF\nc\n```\n")
        host.follow("```console\n# id=20261124-000000; echo run $id-0000\nrun 20261123-093502-b4cd\n# test 20261123-093502-b4cd = $id-0000\n```\n")
        for wrong in ("# : 20261123-093502-b4cd\n", "# echo a\nb\n", "# false\n", "# echo a\n", "# true\na\n"):
            with pytest.raises(AssertionError):
                host.follow(f"```console\n{wrong}```\n")
    finally:
        shell.close()
