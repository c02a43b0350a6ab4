# SPDX-License-Identifier: LGPL-2.1-or-later
"""K1: the commands explain themselves, and a wrong command line says what would be right."""
import re
import subprocess

import pytest

from program import DONE, FAILED, USAGE, Program

ALL = ("doctor image-check image-publish image-list image-info image-exclude image-include image-verify image-delete "
       "image-prune adopt protect unprotect release set-define set-edit set-auto set-list "
       "set-info set-dump set-undefine plan upgrade reimage apply retry rollback pause resume cancel walk promote approve status instance-view "
       "triggers history generations notices metrics recover gc").split()
MUTATING = "image-publish image-exclude image-include image-delete image-prune adopt protect unprotect release set-define set-edit set-auto set-undefine upgrade reimage apply rollback "\
           "retry pause resume cancel walk promote approve recover gc"
IN_JSON = ("doctor image-check image-list image-info image-verify image-prune set-define set-edit set-undefine set-list set-info set-dump triggers release plan upgrade reimage apply retry rollback status "
           "pause resume cancel walk promote approve instance-view history generations notices gc").split()


@pytest.fixture(name="program", scope="module")
def fixture_program():
    return Program("/nonexistent/store", "/nonexistent")


def test_the_list_has_every_command_by_purpose(program):
    out = program("--help").out
    listed = re.findall(r"^  ([a-z-]+)  +[A-Z]", out, re.MULTILINE)
    assert sorted(listed) == sorted(ALL)
    for group in ("Images", "Scale sets", "Runs", "What is and was", "Host"):
        assert f"\n{group}\n" in out
    assert program("help").out == program("-h").out == out


@pytest.mark.parametrize("command", ALL)
def test_each_command_has_help_with_an_example(program, command):
    out = program(command, "--help").out
    assert out.startswith(f"usage: virt-reimage {command}")
    assert f"Example:\n  virt-reimage {command}" in out
    assert ("--json" in out) == (command in IN_JSON)
    assert program("help", command).out == out


@pytest.mark.parametrize("command", MUTATING.split())
def test_each_command_that_changes_something_has_a_dry_run(program, command):
    """G10"""
    assert "--dry-run" in program(command, "--help").out


def test_version_and_global_options_before_and_after(program):
    assert re.fullmatch(r"virt-reimage \d+\.\d+\.\d+\n", program("--version").out)
    before = program.run("--json", "-q", "set-list")
    after = program.run("set-list", "--json", "-q")
    assert (before.status, before.err) == (after.status, after.err)


@pytest.mark.parametrize("arguments, text", [
    ([], "virt-reimage --help"),
    (["uprade", "shop"], "did you mean 'upgrade'?"),
    (["frobnicate"], "there is no command 'frobnicate'"),
    (["help", "imagelist"], "did you mean 'image-list'?"),
    (["upgrade"], "usage: virt-reimage upgrade SET"),
    (["status", "a", "b"], "too many arguments"),
    (["status", "a", "--walk"], "--walk"),
    (["--nonsense", "status"], "--nonsense"),
    (["metrics", "--json"], "no answer in JSON"),
    (["rollback", "a", "b", "--to-generation", "x"], "to-generation"),
])
def test_a_wrong_command_line_is_usage(program, arguments, text):
    assert text in program(*arguments, status=USAGE).error()


def test_an_answer_that_cannot_be_written_is_an_error(program):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(program.command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == FAILED and done.stderr.startswith("error: cannot write the output")
    assert "\n  next:  make room" in done.stderr and done.stderr.endswith("\n  cause: No space left on device\n")


def test_an_empty_root_is_not_the_current_directory(program):
    assert "--root is empty" in program("--root", "", "set-list", status=USAGE).error()


def test_no_control_character_of_a_name_reaches_the_terminal(program):
    result = program.run("image-check", "/nonexistent/\x1b[31mred\nerror: forged")
    assert result.status != DONE
    assert "\x1b" not in result.err
    assert [line.split()[0] for line in result.err.splitlines()] == ["error:", "cause:"]
