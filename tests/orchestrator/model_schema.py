#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""K2: asks docs/model.schema.json about every document that the tests of the model read, and compares with the parser.

usage: model_schema.py SCHEMA TEST_PROGRAM...

The parser reads keys and words without regard to case, so they are brought to the schema's spelling first. What a schema
cannot say is in BEYOND: there the parser refuses and the schema need not.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed; 'packaging/deps test' installs it")
    sys.exit(77)

BEYOND = re.compile("|".join([
    r"is (above|below) max", r"is named twice", r"OS disk cannot be a temp disk", r"they must ascend|does not follow",
    r"is this host: tcp", r"must be HOST or HOST:PORT", r"must be the name that the certificates have",
    r"is out of range \((PT|P\d|0 to 14400 seconds)", r"is not a duration", r"do not fit into", r"are of pair", r"goes in a circle|comes after ", r"comes twice|second spelling",
    r"is no host name|of a host name|that are written", r"is no machine-id|is the same for all", r"would be written twice", r"is for Windows", r"is no field|has no \}|: it has none", r"is no public key",
    r"(aliases|anchors|tags) are not allowed", r"more than one document", r"NUL character", r"not UTF-8",
    r"larger than 1 MiB", r"nested more than",
    r"headers go with https", r"with its zone"]))


class Loader(yaml.SafeLoader):
    """Plain scalars as JSON has them, and no others: whole numbers, true, false, null."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
        ("int", r"^-?(0|[1-9][0-9]*)$", "-0123456789"), ("bool", r"^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$", "tTfF"),
        ("null", r"^(~|[Nn][Uu][Ll][Ll]|)$", ["~", "n", "N", ""])):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


def spelled(value, schema):
    """The document in the schema's spelling of keys and words."""
    if isinstance(value, dict):
        known = {key.lower(): key for key in schema.get("properties", {})}
        result = {}
        for key, one in value.items():
            name = known.get(str(key).lower(), key)
            result[name] = spelled(one, schema.get("properties", {}).get(name, {}))
        return result
    if isinstance(value, list):
        items = schema.get("items", {})
        return [spelled(one, items if isinstance(items, dict) else {}) for one in value]
    words = {word.lower(): word for word in schema.get("enum", []) if isinstance(word, str)}
    return words.get(str(value).lower(), value)


def documents(programs):
    """(text, what the parser said; "" = accepted) of every document that the programs read."""
    with tempfile.TemporaryDirectory() as directory:
        for program in programs:
            done = subprocess.run([program], env={**os.environ, "VR_MODEL_DOCUMENTS": directory}, capture_output=True,
                                  check=False)
            if done.returncode != 0:
                sys.exit(f"{program} failed")
        for path in sorted(Path(directory).glob("*.yaml")):
            yield path.read_bytes(), Path(f"{path}.verdict").read_text(encoding="utf-8")


def load(text):
    try:
        return json.loads(text)  # it may have tabs, which PyYAML does not take
    except ValueError:
        return yaml.load(text, Loader)  # noqa: S506: a SafeLoader


def complaint(validator, schema, text):
    """None where the schema accepts."""
    try:
        loaded = load(text)
    except (yaml.YAMLError, ValueError) as error:
        return f"no YAML: {error}"
    return next((error.message for error in validator.iter_errors(spelled(loaded, schema))), None)


def main():
    schema = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    seen, wrong = {"accepted": 0, "refused": 0, "beyond": 0}, 0
    for text, verdict in documents(sys.argv[2:]):
        said = complaint(validator, schema, text)
        beyond = said is None and verdict != "" and BEYOND.search(verdict) is not None
        seen["beyond" if beyond else "refused" if verdict else "accepted"] += 1
        if (said is None) != (verdict == "") and not beyond:
            wrong += 1
            print(f"the parser says '{verdict or 'good'}', the schema '{said or 'good'}' of:\n{text.decode('utf-8', 'replace')}\n")
    print(", ".join(f"{count} {what}" for what, count in seen.items()))
    if seen["accepted"] < 25 or seen["refused"] < 150:
        print("too few documents")
        wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
