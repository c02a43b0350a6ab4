# SPDX-License-Identifier: LGPL-2.1-or-later
"""K4: what the program prints with --json is as docs/schemas says. Whatever parses its JSON for a test comes by here."""
import functools
import json
import os
import re

import jsonschema
import yaml

DOCS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs")
FOLDER = os.path.join(DOCS, "schemas")
SUFFIX = ".schema.json"
WITH_VALUE = {"-c", "--connect", "--root"}  # global options that may come before the command
NOT_OF_A_COMMAND = {"common", "events", "error", "control"}
STREAMS = {"events", "set-define", "set-edit"}  # a document a line, as it comes


def path_of(name):
    return os.path.join(FOLDER, name + SUFFIX)


def names():
    return {name.removesuffix(SUFFIX) for name in os.listdir(FOLDER) if name.endswith(SUFFIX)}


def load(name):
    with open(path_of(name), encoding="utf-8") as file:
        return json.load(file)


def is_there(name, reference):
    """What a schema refers to, as FILE#/$defs/PART: beside it, or in itself."""
    file, _, pointer = reference.partition("#")
    node = load(file.removesuffix(SUFFIX) if file else name)
    return functools.reduce(lambda node, part: node.get(part, {}), pointer.split("/")[1:], node) != {}


@functools.lru_cache(None)
def validator(path, pointer="#"):
    """Of a file, or of a part of it; what it refers to is looked for beside it."""
    uri = "file://" + path
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
    resolver = jsonschema.RefResolver(uri, schema)
    return jsonschema.Draft202012Validator({"$ref": uri + pointer} if pointer != "#" else schema, resolver=resolver)


def errors_of(document, name):
    """A line of a stream that is none of its kinds is told what it lacks of its own."""
    errors = list(validator(path_of(name)).iter_errors(document))
    kind = document.get("event") if isinstance(document, dict) else None
    file = "set-define" if kind == "define" else "events"
    if errors and kind in load(file)["$defs"]:
        errors = list(validator(path_of(file), f"#/$defs/{kind}").iter_errors(document)) or errors
    return errors


def check(document, name):
    """The document is as docs/schemas/NAME.schema.json says."""
    error = jsonschema.exceptions.best_match(errors_of(document, name))
    assert error is None, f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message}"
    if name == "notices":
        notice = validator(os.path.join(DOCS, "notices.schema.json"))
        for one in document["notices"]:
            if "schemaVersion" in one:  # test_notices.py puts its own into the outbox, which are no whole ones
                notice.validate({key: value for key, value in one.items() if key != "deliveries"})


def command_of(words):
    """The command among the words of a command line; None: there is none, or its JSON is not of this program."""
    words = iter(words)
    for word in words:
        if word in WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def schema_of(words):
    """Which schema the answer has; None: it has none."""
    command = command_of(words)
    if command not in names() - NOT_OF_A_COMMAND:
        return None
    if command in ("upgrade", "reimage", "apply", "retry", "rollback"):
        return "upgrade" if "--dry-run" in words else "events"
    return command


def documents(text):
    """One document, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def check_output(words, text):
    """What a command that ended has printed with --json, or --azure."""
    name = schema_of(words)
    if name and text and ("--json" in words or "--azure" in words):
        for document in documents(text):
            check(document, name)


def check_line(words, line):
    """A line of a command that still runs; what is no whole one says nothing."""
    if schema_of(words) in STREAMS and line.endswith("\n"):
        check_output(words, line)


def check_error(text):
    """What a command has said on standard error: of each error that is JSON, that it is as it should be."""
    for line in text.splitlines():
        if line.startswith('{"error":'):
            check(json.loads(line), "error")


# --- HTTP -------------------------------------------------------------------------------------------------------------------------------

@functools.lru_cache(None)
def api():
    with open(os.path.join(DOCS, "openapi.yaml"), encoding="utf-8") as file:
        return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.lru_cache(None)
def routes():
    """(pattern, methods), the longest paths first."""
    paths = sorted(api()["paths"].items(), key=lambda item: -len(item[0]))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), re.IGNORECASE), item) for path, item in paths]


def response_of(method, url, status):
    """The schema of an answer, or None where the API does not describe one."""
    path = re.sub(r"^/subscriptions/.*?/providers/Microsoft\.Compute(/locations/[^/]+)?", "", url.split("?")[0], flags=re.IGNORECASE)
    for pattern, item in routes():
        if pattern.fullmatch(path or "/") and method.lower() in item:
            responses = item[method.lower()]["responses"]
            response = responses.get(str(status), responses["default"])
            while "$ref" in response:
                response = functools.reduce(lambda node, part: node[part], response["$ref"].removeprefix("#/").split("/"), api())
            return response.get("content", {}).get("application/json", {}).get("schema")
    return None


def check_answer(method, url, status, document):
    """The document is what docs/openapi.yaml says of that route."""
    schema = response_of(method, url, status)
    if not schema:
        return
    if re.fullmatch(r"schemas/[a-z-]+[.]schema[.]json", schema.get("$ref", "")):
        check(document, os.path.basename(schema["$ref"]).removesuffix(SUFFIX))
    else:
        resolver = jsonschema.RefResolver("file://" + os.path.join(DOCS, "openapi.yaml"), api())
        jsonschema.Draft202012Validator(schema, resolver=resolver).validate(document)
