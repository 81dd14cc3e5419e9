"""Generated pages are up to date, and the YAML and the commands of all pages are valid."""

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from handbook import api, commands, flags, pictures
from handbook.lines import Step, steps
from tests.support import prose
from tests.support.crds import crds

ROOT = prose.ROOT
PAGES = {
    str(path.relative_to(ROOT)): path.read_text() for path in prose.find([ROOT / "README.md", ROOT / "docs"], ".md")
}
VALUES = json.loads((ROOT / "charts" / "pantala" / "values.schema.json").read_text())
KINDS = {crd["spec"]["names"]["kind"]: crd for crd in crds()}
_YAML = re.compile(r"^( *)```yaml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_KUBECTL = re.compile(r"kubectl(?: [^`\n]*?)?[ ,/](tasks?|peers?|imageprefetche?s?|sourcepolic(?:y|ies))(?=[ ,/\n`])")


def test_the_page_of_flags_is_up_to_date() -> None:
    """Run ``make pages`` if it fails."""
    assert flags.page() == flags.PAGE.read_text()


def test_the_page_of_flags_has_each_program() -> None:
    names = ["pantala-operator", "pantala-supernode", "pantala-peer", "pantala-runtime"]
    names += [f"pantala-peer {name}" for name in ("configure", "watch", "cleanup")]
    assert names == [program.name for program in flags.programs()]
    assert all(program.flags for program in flags.programs())


def test_the_page_of_the_api_is_up_to_date() -> None:
    """Run ``make pages`` if it fails."""
    assert api.page() == api.PAGE.read_text()


def test_the_page_of_the_api_has_operations_of_each_module() -> None:
    assert {"/api/v1/sync", "/api/v1/copies/{task_id}", "/healthz"} <= {each.path for each in api.operations()}


def test_the_page_of_the_commands_is_up_to_date() -> None:
    """Run ``make pages`` if it fails."""
    assert commands.page() == commands.PAGE.read_text()


def test_the_pages_name_commands_that_exist() -> None:
    known = {name for name, _ in commands.commands()} | {"COMMAND"}
    used = {(page, name) for page, text in PAGES.items() for name in re.findall(r"kubectl pantala ([\w-]+)", text)}
    assert {"explain", "doctor"} <= {name for _, name in used}
    assert set() == {(page, name) for page, name in used if name not in known}


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_up_to_date_well_formed_and_shown(name: str) -> None:
    [(path, text)] = [(path, text) for path, text in pictures.outputs().items() if path.stem == name]
    assert text == path.read_text(), "run make pages"
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}  # noqa: S314 - our own
    assert {"title", "desc"} <= tags
    assert any(f"pictures/{name}.svg" in page for page in PAGES.values())


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping in a block of YAML, with its page."""
    for page, text in PAGES.items():
        for indent, block in _YAML.findall(text):
            for document in yaml.load_all(re.sub(f"^{indent}", "", block, flags=re.MULTILINE), yaml.CSafeLoader):
                if isinstance(document, dict):
                    yield page, document


def unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """The fields that the schema of a CRD does not have. The API server would drop them."""
    if isinstance(value, dict) and "properties" in schema:
        for name, field in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from unknown(field, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from unknown(each, schema.get("items", {}), f"{path}[]")


def test_the_resources_in_the_pages_are_valid() -> None:
    ours = [(page, each) for page, each in documents() if str(each.get("apiVersion", "")).startswith("pantala.dev/")]
    assert len(ours) >= 9
    for page, resource in ours:
        schema = KINDS[resource["kind"]]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        jsonschema.validate(resource, schema)
        assert [] == list(unknown({"spec": resource["spec"]}, schema, page))


def test_the_values_in_the_pages_are_valid() -> None:
    blocks = [
        (page, each)
        for page, each in documents()
        if "apiVersion" not in each and each.keys() <= VALUES["properties"].keys()
    ]
    assert len(blocks) > 10
    for page, values in blocks:
        errors = [f"{page}: {error.message}" for error in jsonschema.Draft7Validator(VALUES).iter_errors(values)]
        assert [] == errors


def test_commands_name_the_group_of_our_resources() -> None:
    """Tekton has Tasks too, so ``kubectl get tasks`` may show them."""
    found = [(page, match[0]) for page, text in PAGES.items() for match in _KUBECTL.finditer(text)]
    assert [] == [
        (page, text) for page, text in found if "kubectl pantala" not in text and "kubectl explain" not in text
    ]


def test_the_pages_name_targets_of_make_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        (page, name) for page, text in PAGES.items() for name in re.findall(r"[` (]make (?:-s )?([a-z0-9-]+)", text)
    }
    named = {(page, name) for page, name in used if f"`make {name}" in PAGES[page] or f"    make {name}" in PAGES[page]}
    assert len(named) > 10
    assert set() == {(page, name) for page, name in named if name not in targets}


def test_each_page_says_first_what_it_is_about() -> None:
    """A heading of the first level, once."""
    for page, text in PAGES.items():
        plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        assert 1 == len(re.findall(r"^# .+", plain, re.MULTILINE)), page


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        (("a … c", "3/3"), "x\na   b  c\n3/3\n", None),
        (("3/3", "a"), "a\n3/3\n", "a"),
        (("deleted …",), "deleted\n", None),
        (("a.c",), "abc\n", "a.c"),
    ],
)
def test_the_output_of_a_step_has_its_lines_in_order(
    expected: tuple[str, ...], output: str, missing: str | None
) -> None:
    assert missing == Step("", expected).missing(output)


def test_a_block_of_shell_has_the_text_after_it() -> None:
    page = "```sh\necho a\n```\n\nIt prints:\n\n```text\na\n```\n\n```sh\ntrue\n```\n\n```yaml\nx: y\n```\n"
    assert [Step("echo a\n", ("a",)), Step("true\n", ())] == steps(page)


def test_steps_before_a_target_print_nothing_for_the_shell_to_run() -> None:
    """``eval "$(make -s cluster)"`` runs each line of stdout. The first run also makes the virtual environment."""
    rules = (ROOT / "Makefile").read_text().split("\n\n")
    (venv,) = [rule for rule in rules if rule.startswith("$(VENV)/ready:")]
    echoes = [line for line in venv.splitlines() if "echo" in line]
    assert echoes
    assert all(line.endswith(">&2") for line in echoes)


def test_every_field_is_described() -> None:
    """The reference and ``kubectl explain`` show the descriptions."""
    schemas = [version["schema"]["openAPIV3Schema"] for crd in crds() for version in crd["spec"]["versions"]]
    assert [] == [path for schema in schemas for path in _undescribed("", schema)]


def _undescribed(path: str, node: dict[str, Any]) -> Iterator[str]:
    if "description" not in node and path != ".metadata":
        yield path
    for name, field in node.get("properties", {}).items():
        yield from _undescribed(f"{path}.{name}", field)
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from _undescribed(f"{path}[]", node[inner])
