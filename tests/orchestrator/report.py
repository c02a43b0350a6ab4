#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""J10: the page of a run says what history --run --json says: each key of its schema is on the page, in text, and when its value changes so does the page.

usage: report.py docs/schemas REPORT_PAGE    (the program makes pages of documents)
"""
import copy
import html.parser
import itertools
import json
import os
import subprocess
import sys

TIME = "^[0-9]{4}-"
UUID = "^[0-9a-f]{8}("


class Words(html.parser.HTMLParser):
    """What a reader reads, and the times that stand behind those that he is shown; neither the charts nor what is not on the page."""

    def __init__(self, page):
        super().__init__()
        self.hidden, self.words = 0, []
        self.feed(page.partition("<body>")[2])
        assert self.hidden == 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag == "svg"
        if tag == "time":
            self.words.append(dict(attrs)["datetime"])

    def handle_endtag(self, tag):
        self.hidden -= tag == "svg"

    def handle_data(self, data):
        if not self.hidden and data.strip():
            self.words.append(data.strip())


class Schema:
    """Makes documents: each value is there once, so that it is known where it comes from."""

    def __init__(self, folder):
        self.folder, self.files = folder, {}

    def load(self, name):
        if name not in self.files:
            with open(os.path.join(self.folder, name), encoding="utf-8") as file:
                self.files[name] = json.load(file)
        return self.files[name]

    def resolve(self, file, node):
        while "$ref" in node:
            other, _, pointer = node["$ref"].partition("#")
            file, node = other or file, self.load(other or file)
            for part in pointer.split("/")[1:]:
                node = node[part]
        options = [one for one in node.get("anyOf", ()) if one != {"type": "null"}]
        return self.resolve(file, options[0]) if options else (file, node)

    def leaves(self, file, node, path=()):
        """(path, schema) of all that has no parts; each array has two items."""
        file, node = self.resolve(file, node)
        if node.get("type") == "array":
            for i in range(2):
                yield from self.leaves(file, node["items"], path + (i,))
            return
        for part in node.get("allOf", ()):
            yield from self.leaves(file, part, path)
        for key, value in node.get("properties", {}).items():
            yield from self.leaves(file, value, path + (key,))
        if not {"allOf", "properties"} & set(node):
            yield path, node


def value_of(node, number):
    """The number is three digits."""
    kinds = node.get("type", ())
    if "enum" in node:
        return [one for one in node["enum"] if one is not None][number % 2]
    if "boolean" in kinds:
        return number % 2 == 0
    if "integer" in kinds:
        return number
    assert "string" in kinds, node
    pattern = node.get("pattern", "")
    if pattern.startswith(TIME):
        return f"2026-11-23T10:{number // 60:02}:{number % 60:02}.{number:03}Z"
    return f"00000000-0000-0000-0000-000000000{number:03}" if pattern.startswith(UUID) else f"word{number:03}"


def put(document, path, value):
    """As lists, where its keys are numbers."""
    for key, after in zip(path, path[1:]):
        inner = [] if isinstance(after, int) else {}
        if isinstance(key, int) and len(document) == key:
            document.append(inner)
        document = document[key] if isinstance(document, list) else document.setdefault(key, inner)
    if isinstance(document, list) and len(document) == path[-1]:
        document.append(value)
    else:
        document[path[-1]] = value


def is_time(path):
    return path[-1].endswith("Ms") or path[-1] in ("p50", "p95", "max") if isinstance(path[-1], str) else False


def pages_of(program, documents):
    done = subprocess.run([program], input="\n".join(map(json.dumps, documents)), capture_output=True, text=True, check=True)
    pages = done.stdout.split("\0")[:-1]
    assert len(pages) == len(documents), done.stderr
    return [" ".join(Words(page).words) for page in pages]


def check_each_is_there(leaves, document, text):
    for path, node in leaves:
        value = value_at(document, path)
        shown = f"{value} ms" if is_time(path) else value if isinstance(value, str) else f"{value}"
        assert isinstance(value, bool) or shown in text, f"{path}: the page does not say {shown!r}"


def value_at(document, path):
    for key in path:
        document = document[key]
    return document


def changed(document, path, node):
    """The same with another value in one place."""
    other = copy.deepcopy(document)
    value = value_at(document, path)
    fresh = not value if isinstance(value, bool) else value_of(node, 999) if "enum" not in node else next(
        one for one in node["enum"] if one not in (None, value))
    put(other, path, fresh)
    return other


def main():
    schema, program = Schema(sys.argv[1]), sys.argv[2]
    leaves = list(schema.leaves("history.schema.json", {"$ref": "#/$defs/run"}))
    numbers, document = itertools.count(101), {}
    for path, node in leaves:
        put(document, path, value_of(node, next(numbers)))
    assert 200 < len(leaves) < 890, "each has three digits of its own"
    documents = [document] + [changed(document, path, node) for path, node in leaves]
    text, *others = pages_of(program, documents)
    check_each_is_there(leaves, document, text)
    for (path, _), other in zip(leaves, others):
        assert other != text, f"{path}: whatever it is, the page says the same"
    check_consoles(schema, program, document)
    check_nothing_known(program, leaves, document)
    print(f"{len(leaves)} values are on the page")


def check_consoles(schema, program, document):
    """Whatever became of it: who has last words has them on the page, and why."""
    phases = schema.load("common.schema.json")["$defs"]["instancePhase"]["enum"]
    pages = pages_of(program, [{**document, "instances": [{**document["instances"][0], "phase": phase, "console": ["last", "words"]}]}
                               for phase in phases])
    for phase, page in zip(phases, pages):
        assert f"{phase}: {document['instances'][0]['reason']} The last lines of its serial console: last\nwords" in page, phase


def check_nothing_known(program, leaves, document):
    """What may be null is, everywhere."""
    bare = copy.deepcopy(document)
    for path, node in leaves:
        if "null" in node.get("type", ()):
            put(bare, path, None)
    for instance in bare["instances"]:
        instance.update(dataDisks=None, swapState=None, timeline=[], extensions=[], console=[])
    bare.update(error=None, targetImageReference=None)
    assert not {"(null)", "None", "null"} & set(pages_of(program, [bare])[0].split()), "null is shown as '-', or not at all"


if __name__ == "__main__":
    main()
