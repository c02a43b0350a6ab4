# SPDX-License-Identifier: LGPL-2.1-or-later
"""K4: each command that answers in JSON has a schema, and the schemas hold together. That answers are as they say is seen wherever a test
reads one: tests/lib/schemas.py."""
import json
import os
import re
import subprocess

import jsonschema
import pytest
import yaml

from lib import schemas
from program import TOP, Program, Running

# Azure's, which has no value where ours is null; the parts of an error; and what the process of a run has nothing to say of.
MAY_BE_MISSING = {("history", "azureProperties"): {"error", "targetImageReference"}, ("error", "error"): {"cause", "now", "next"},
                  ("control", "state"): {"hold", "holdText"}}
NAMES = sorted(schemas.names())


@pytest.fixture(name="lab", scope="module")
def fixture_lab(make_lab):
    return make_lab(2, "schemas", batch=50)


def commands(program):
    listed = re.findall(r"^  ([a-z-]+)  +[A-Z]", program("--help").out, re.MULTILINE)
    assert len(listed) > 30
    return {command for command in listed if "--json" in program(command, "--help").out}


def test_each_command_that_answers_in_json_has_one():
    """And no other has."""
    assert commands(Program("/nonexistent/store", "/nonexistent")) == schemas.names() - schemas.NOT_OF_A_COMMAND


def parts(node, pointer=""):
    """All of a schema's parts, each with where it stands."""
    if isinstance(node, dict):
        yield pointer, node
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from parts(value, f"{pointer}/{key}")


def objects(name):
    """Those that have keys."""
    return [(pointer, part) for pointer, part in parts(schemas.load(name)) if part.get("type") == "object" and "properties" in part]


def name_of(pointer):
    return pointer.rsplit("/", 1)[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_says_all(name):
    """Of each key what it is; no key is optional, and none is there that is not named."""
    schema = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] and schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for pointer, part in parts(schema):
        if "$ref" in part:
            assert schemas.is_there(name, part["$ref"]), (pointer, part["$ref"])
    for pointer, part in objects(name):
        optional = MAY_BE_MISSING.get((name, name_of(pointer)), set())
        assert sorted(part["required"]) == sorted(set(part["properties"]) - optional), pointer
        is_open = pointer.endswith("Keys") or (name, name_of(pointer)) == ("notices", "notice")
        assert is_open or part.get("additionalProperties") is False or part.get("unevaluatedProperties") is False, pointer
        for key, value in part["properties"].items():
            assert value["description"], (pointer, key)


def may_be_null(value):
    return value == {} or None in value.get("enum", ()) or "null" in value.get("type", ()) or {"type": "null"} in value.get("anyOf", ())


@pytest.mark.parametrize("name", NAMES)
def test_a_key_has_the_name_that_its_value_needs(name):
    """camelCase; a unit in the name; what may be null says when."""
    for pointer, part in objects(name):
        for key, value in part["properties"].items():
            said = (name, pointer, key)
            assert re.fullmatch("[a-z][a-zA-Z0-9]*", key), said
            assert not re.search("(Size|Duration|Millis|Seconds?Count)$", key), said
            is_number = "integer" in value.get("type", ()) or "number" in value.get("type", ())
            assert not re.search("(Ms|Bytes|Seconds|Count)$", key) or is_number or "spread" in json.dumps(value), said
            described = {key: text for key, text in value.items() if key != "description"}
            if described and may_be_null(described):
                assert "null" in value["description"], said


def test_every_part_is_used():
    used, there = set(), set()
    for name in NAMES:
        schema = schemas.load(name)
        there |= {(name, one) for one in schema.get("$defs", ())}
        for _, part in parts(schema):
            file, _, pointer = part.get("$ref", "").partition("#/$defs/")
            used.add((file.removesuffix(schemas.SUFFIX) or name, pointer))
    assert there <= used, there - used
    assert len(there) > 60


def test_what_is_not_as_it_says_is_found():
    """The guard itself: a key too many, one that is missing, another type, and a line of a stream."""
    good = {"set": "shop", "dryRun": False, "message": "it pauses"}
    schemas.check_output(["--json", "resume", "shop"], json.dumps(good))
    for bad in ({**good, "extra": 1}, {"set": "shop", "dryRun": False}, {**good, "dryRun": "no"}):
        with pytest.raises(AssertionError):
            schemas.check_output(["--root", "status", "resume", "--json", "shop"], json.dumps(bad))
    line = {"event": "nothingToDo", "time": "2026-11-23T10:00:00.000Z", "set": "shop", "runId": None, "skippedInstanceCount": 2}
    schemas.check_output(["upgrade", "shop", "--json"], json.dumps(line))
    for bad in ({**line, "time": "2026-11-23 10:00"}, {**line, "event": "batch"}, {**line, "batch": 1}):
        with pytest.raises(AssertionError):
            schemas.check_output(["upgrade", "shop", "--json"], f"{json.dumps(line)}\n{json.dumps(bad)}\n")


def test_an_inherited_key_too_many_is_found(defined):
    """Documents that are made of a part that others have too."""
    view = defined.json("image-info", "cheap", "1.0.0")
    for name, bad in (("image-info", {**view, "extra": 1}), ("image-list", {"images": [view]}), ("image-info", {**view, "boot": {}})):
        with pytest.raises(AssertionError):
            schemas.check(bad, name)


def test_http_answers_are_held_against_the_api():
    listed = {"sets": []}
    schemas.check_answer("GET", "/subscriptions/S/providers/Microsoft.Compute/virtualmachinescalesets?api-version=2019-03-01", 200, listed)
    schemas.check_answer("GET", "/virtualMachineScaleSets/x", 404, {"error": {"code": "NotFound", "message": "no"}})
    for url, status, bad in (("/virtualMachineScaleSets", 200, {}), ("/virtualMachineScaleSets/x", 404, {"error": {"code": 7}}), ("/", 200, {"jobs": 1})):
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            schemas.check_answer("GET", url, status, bad)


def test_the_model_as_json(defined):
    """set-dump: as text, and as what it says; it can be given again."""
    text = defined("set-dump", "shop").out
    dump = defined.json("set-dump", "shop")
    assert dump["text"] == text and dump["model"] == yaml.safe_load(text) and dump["modelRevision"] == 1
    again = defined("--json", "set-define", "-", "--dry-run", stdin=json.dumps(dump["model"])).lines
    assert [line["changes"] for line in again] == [[]]


def test_a_run_tells_while_it_goes_on(lab):
    """Each line is there when it is written, and not at the end."""
    run = lab.program.start("--json", "upgrade", lab.set_name, "--version", "2.0.0")
    first = json.loads(run.stdout.readline())
    assert first["event"] == "run" and first["run"]["runningStatus"]["completedTime"] is None
    assert lab.status()["runId"] == first["runId"] and run.poll() is None
    rest, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    lines = [first] + [json.loads(line) for line in rest.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds[-1] == "end" and kinds.count("batch") == 2 and kinds.count("run") == kinds.count("end") == 1
    done = [line for line in lines if line["event"] == "instance" and line["phase"] == "committed"]
    assert [line["domain"] for line in done] == lab.names and all(line["times"]["offMs"] >= 0 for line in done)
    assert all(line["times"] is None for line in lines if line["event"] == "instance" and line not in done)


def test_the_examples_of_the_page(lab):
    """docs/json.md: each is typed as it stands there, over a set of that name."""
    with open(os.path.join(TOP, "docs/json.md"), encoding="utf-8") as page:
        blocks = re.findall(r"^    \$ (.+(?:\n      .+)*)", page.read(), re.MULTILINE)
    assert len(blocks) >= 3
    folder = lab.program.path("bin")
    os.makedirs(folder)
    with open(os.path.join(folder, "virt-reimage"), "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nexec {" ".join(lab.program.command())} "$@"\n')
    os.chmod(script.name, 0o755)
    for block in blocks:
        done = subprocess.run(["bash", "-o", "pipefail", "-c", block.replace("shop", lab.set_name)], capture_output=True, text=True, timeout=120, check=False,
                              env={**lab.program.environment, "PATH": f"{folder}:{os.environ['PATH']}"})
        assert done.returncode == 0 and done.stdout, (block, done.stdout, done.stderr)


def test_errors():
    """A failing command has one line for a program; its codes are those of the table."""
    good = {"error": {"code": "Busy", "message": "a: b; c", "what": "a", "cause": "b", "next": "c"}}
    schemas.check_error(f"note: it waits\n{json.dumps(good, separators=(',', ':'))}\n")
    for bad in ({"code": "Strange"}, {"message": ""}, {"now": None}, {"extra": 1}):
        with pytest.raises(AssertionError):
            schemas.check_error(json.dumps({"error": {**good["error"], **bad}}, separators=(",", ":")))
    with open(os.path.join(TOP, "docs/errors.md"), encoding="utf-8") as file:
        text = file.read()
    of_commands, of_http = (re.findall(rf"^\| `(\w+)` \| \d{{{digits}}} \|", text, re.MULTILINE) for digits in (1, 3))
    assert schemas.load("error")["properties"]["error"]["properties"]["code"]["enum"] == of_commands
    assert schemas.response_of("GET", "/", 500)["properties"]["error"]["properties"]["code"]["enum"] == of_commands + of_http
    assert set(schemas.load("control")["$defs"]["error"]["properties"]["code"]["enum"]) <= {*of_commands, *of_http}


def test_what_a_running_command_says_is_held_against_its_schema(tmp_path):
    """The guard itself, however a test reads it: line by line, all of it, or what is left at the end."""
    script = tmp_path / "lines"
    script.write_text("#!/bin/sh\nprintf '%s\\n' \"$GOOD\" \"$LAST\"\n", encoding="utf-8")
    script.chmod(0o700)
    good = json.dumps({"event": "nothingToDo", "time": "2026-11-23T10:00:00.000Z", "set": "shop", "runId": None, "skippedInstanceCount": 2})
    bad = good.replace("skipped", "slipped")

    def start(last, words=("--json", "upgrade", "shop")):
        return Running([str(script)], words, env={**os.environ, "GOOD": good, "LAST": last})

    for read in (lambda run: list(run.stdout), lambda run: run.stdout.read(), lambda run: (run.stdout.readline(), run.stdout.readline()),
                 lambda run: run.communicate(), lambda run: (run.stdout.readline(), run.communicate())):
        for last, words in ((good, ("--json", "upgrade", "shop")), (bad, ("upgrade", "shop"))):
            with start(last, words) as run:
                assert read(run)
        with start(bad) as run, pytest.raises(AssertionError, match="skippedInstanceCount"):
            read(run)
    with start(good) as run:
        assert run.stdout.readline() == good + "\n" and run.communicate() == (good + "\n", "")


@pytest.mark.parametrize("words", [["status", "nosuch"], ["status"], ["status", "--nosuch", "shop"], ["metrics"], ["nosuch"],
                                   ["upgrade", "shop", "--version", "9.9.9"], ["retry", "shop"], ["plan", "shop", "--version", "9.9.9"],
                                   ["image-check", "/dev/null"], ["set-define", "/nonexistent"], ["-c", "nosuch://", "gc"]])
def test_a_failure_is_one_line(defined, words):
    """... and with --json nothing but it is said where nothing was done."""
    result = defined.run("--json", *words)
    assert result.status != 0 and len(result.err.splitlines()) == 1, result.err
    assert json.loads(result.err)["error"]["message"]
