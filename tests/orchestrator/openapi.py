#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""K3: docs/openapi.yaml is OpenAPI 3.1 that hangs together, and says of each route what the table of routes says; and each route is a command, whose schema is its answer's (K4).

usage: openapi.py docs/openapi.yaml TEST_ROUTE_TABLE VIRT_REIMAGE    (the first program prints the table when called with --list)
"""
import functools
import os
import re
import subprocess
import sys

import jsonschema
import yaml

METHODS = {"get", "put", "post", "delete", "patch"}
KINDS = ("about", "commands", "document", "lines", "text", "long", "put", "patch")
ANSWERS = {"about": {"200"}, "commands": {"101"}, "document": {"200"}, "lines": {"200"}, "text": {"200"}, "long": {"202"},
           "put": {"200", "202"}, "patch": {"200", "202"}}
# What of OpenAPI 3.1 a document of ours is made of; a key that is not here is a typing error.
KNOWN = {
    "document": {"openapi", "info", "servers", "paths", "components"},
    "path": METHODS | {"parameters", "summary", "description"},
    "operation": {"operationId", "summary", "description", "parameters", "requestBody", "responses", "x-read-only"},
    "parameter": {"name", "in", "required", "description", "schema"},
    "response": {"description", "headers", "content"},
    "body": {"required", "content", "description"},
    "components": {"parameters", "requestBodies", "responses", "schemas"},
}


class OnlyOnce(yaml.SafeLoader):
    """A key that comes twice is an error, which YAML's own loader does not say."""


def mapping_once(loader, node):
    keys = [loader.construct_object(key) for key, value in node.value]
    assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a key comes twice"
    return loader.construct_mapping(node, deep=True)


OnlyOnce.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping_once)


class Document:
    def __init__(self, path):
        self.folder = os.path.dirname(path)
        with open(path, encoding="utf-8") as file:
            self.root = yaml.load(file, OnlyOnce)
        self.used = set()

    def known(self, what, node):
        assert set(node) <= KNOWN[what], f"{what}: {set(node) - KNOWN[what]}"

    def resolve(self, node):
        while "$ref" in node:
            assert set(node) == {"$ref"}, node
            if node["$ref"].startswith("schemas/"):
                return self.outside(node["$ref"])
            self.used.add(node["$ref"])
            target = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def outside(self, name):
        """One of docs/schemas, which tests/cli/test_schemas.py looks into."""
        assert os.path.isfile(os.path.join(self.folder, name)), name
        return {}

    def schema(self, node):
        """With what it refers to in its place."""
        if isinstance(node, dict):
            return {key: self.schema(value) for key, value in self.resolve(node).items()}
        return [self.schema(one) for one in node] if isinstance(node, list) else node

    def check_schema(self, node):
        jsonschema.Draft202012Validator.check_schema(self.schema(node))

    def content(self, node):
        assert node["content"], node
        for media, one in node["content"].items():
            assert re.fullmatch(r"[a-z]+/[a-z.+-]+", media), media
            self.check_schema(one["schema"])

    def parameters(self, nodes):
        found = {}
        for node in map(self.resolve, nodes):
            self.known("parameter", node)
            assert node["in"] in ("path", "query") and node["description"], node
            assert node.get("required", False) == (node["in"] == "path"), node
            self.check_schema(node["schema"])
            assert (node["in"], node["name"]) not in found, node
            found[node["in"], node["name"]] = self.schema(node["schema"])
        return found

    def responses(self, nodes):
        assert "default" in nodes
        for status, node in nodes.items():
            assert status == "default" or re.fullmatch("[1-5][0-9][0-9]", status), status
            node = self.resolve(node)
            self.known("response", node)
            assert node["description"]
            if "content" in node:
                self.content(node)
        return {status: self.answer_of(node) for status, node in nodes.items() if status != "default"}

    def answer_of(self, node):
        """The file with the schema of an answer; None: it is said here."""
        return self.resolve(node).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")

    def operations(self):
        """(method, path) -> read-only, statuses, query parameters, members of the body (None: any object, or no body)."""
        self.known("document", self.root)
        self.known("components", self.root["components"])
        assert re.fullmatch(r"3\.1\.[0-9]", self.root["openapi"]) and {"title", "version"} <= set(self.root["info"])
        found, names = {}, set()
        for path, item in self.root["paths"].items():
            self.known("path", item)
            for method in METHODS & set(item):
                operation = item[method]
                self.known("operation", operation)
                assert operation["operationId"] not in names and operation["summary"], operation
                names.add(operation["operationId"])
                parameters = self.parameters(item["parameters"] + operation.get("parameters", []))
                in_path = {name for where, name in parameters if where == "path"}
                assert in_path == set(re.findall(r"\{(\w+)\}", path)), path
                query = {name: schema for (where, name), schema in parameters.items() if where == "query"}
                assert query.pop("api-version", None), path
                found[method.upper(), path] = (operation["x-read-only"], self.responses(operation["responses"]), query,
                                               self.body(operation))
        for kind, members in self.root["components"].items():
            for name in members:
                assert f"#/components/{kind}/{name}" in self.used, f"{kind}/{name} is not used"
        return found

    def body(self, operation):
        if "requestBody" not in operation:
            return {}
        node = self.resolve(operation["requestBody"])
        self.known("body", node)
        self.content(node)
        schema = self.schema(node["content"]["application/json"]["schema"])
        return schema["properties"] if "properties" in schema else None


def rows_of(program):
    out = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        method, path, kind, read_only, fields, words = line.split("\t")
        yield method, path, KINDS[int(kind)], read_only == "1", set(fields.split()), words


@functools.lru_cache(None)
def help_of(program, command):
    done = subprocess.run([program, "help", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_command(program, words):
    """It is there, and has the options that the route gives it."""
    command, *rest = words.split()
    for word in [command] + rest:
        option = word.split("=")[0]
        assert not word.startswith("--") or re.search(rf"^  {option} ", help_of(program, command), re.MULTILINE), f"no {option}: {words}"
    help_of(program, command)


def main():
    operations = Document(sys.argv[1]).operations()
    rows = list(rows_of(sys.argv[2]))
    assert len(rows) > 30, "the table was not listed"
    only_there = set(operations) - {(method, path) for method, path, *_ in rows}
    assert not only_there, f"no such routes: {only_there}"
    for method, path, kind, read_only, fields, words in rows:
        assert (method, path) in operations, f"not described: {method} {path}"
        of_socket, statuses, query, body = operations[method, path]
        where = f"{method} {path}"
        if words:
            check_command(sys.argv[3], words)
        assert of_socket == read_only, where
        assert set(statuses) == ANSWERS[kind], f"{where}: {statuses}"
        documented = statuses if kind in ("document", "put", "patch") else ()
        for status in documented:
            assert statuses[status] == f"schemas/{words.split()[0]}.schema.json", f"{where}: {statuses[status]}"
        assert set(query) == fields, f"{where}: {set(query) ^ fields}"
        if method == "POST":
            assert body == query, f"{where}: what the body may say is not what the query may"
        else:
            assert body is None if method in ("PUT", "PATCH") else body == {}, where
    print(f"{len(rows)} routes are described")


if __name__ == "__main__":
    main()
