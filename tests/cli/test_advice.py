"""What messages tell a person to do can be done: every option, command and extra that they name."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer

from atrous.cli.main import app
from atrous.recipe import apply_overrides, build_recipe

ROOT = Path(__file__).parents[2]
COMMAND = typer.main.get_command(app)
NAMES = "|".join(COMMAND.commands)
RAISED_BY = {
    "training": ["train", "verify-resume", "check"],
    "evaluation": ["evaluate", "compare", "train"],
    "engines": ["predict", "evaluate", "export", "serve"],
    "prediction": ["predict"],
    "profile": ["inspect"],
    "serve": ["serve"],
    "study": ["study"],
    "export": ["export"],
    "report": ["report", "evaluate"],
}
"""Folder → commands whose options its messages may name; elsewhere, those of any command."""


def collect_messages():
    """Yield (file, text) of every string with a space that is no docstring; `{}` for a value."""
    for path in sorted((ROOT / "src/atrous").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(value) for value in node.values}
                parts = [getattr(value, "value", None) for value in node.values]
                text = "".join(part if isinstance(part, str) else "{}" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if id(node) not in skipped and " " in text:
                yield path.relative_to(ROOT / "src/atrous"), text


MESSAGES = list(collect_messages())


def find_commands(folder):
    """Return the commands that a folder's messages are about."""
    commands = [COMMAND.commands[name] for name in RAISED_BY.get(folder, COMMAND.commands)]
    return [each for one in commands for each in getattr(one, "commands", {"": one}).values()]


def parse(command, arguments):
    """Parse arguments as the command does; what it needs besides is filled in."""
    if not arguments or arguments[0].startswith("--"):
        places = [option for option in command.params if option.param_type_name == "argument"]
        arguments = ["64"] * len(places) + arguments
    for option in command.params:
        name = option.opts[0]
        if option.required and option.param_type_name == "option" and name not in arguments:
            arguments = [*arguments, name, "64"]
    command.make_context(
        "atrous",
        [
            "onnx" if before == "--to" else argument
            for before, argument in zip(["", *arguments], arguments, strict=False)
        ],
    )


def test_options_that_messages_name():
    num_options = 0
    for path, text in MESSAGES:
        ours, _, _ = text.partition("pip install")  # pip has options of its own
        for name, value in re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])(?: (\d+))?", ours):
            if "docker run" in text or "var(--" in text:
                continue
            num_options += 1
            takers = [
                command
                for command in find_commands(path.parts[0])
                if any(name in option.opts + option.secondary_opts for option in command.params)
            ]
            assert takers, f"{path}: there is no {name}: {text}"
            if value:
                parse(takers[0], [name, value])
    assert num_options > 50


def test_recipe_keys_that_messages_set():
    settings = [
        found
        for path, text in MESSAGES
        if "inspect" not in str(path) and "section.key=value" not in text
        for found in re.findall(r"(\w+\.\w+)=([^\s,;)`]*[^\s,;.)`])", text)
    ]
    assert ("train.precision", "32") in settings
    for key, value in settings:
        section, _, name = key.partition(".")
        default = build_recipe({}).model_dump()[section][name]
        value = default if value == "…" else value.replace("{}", "7")
        build_recipe(apply_overrides({}, [f"{key}={value}"]))


def find_named_commands():
    """Return the commands in backticks, and those in plain text whose name is known."""
    for _, text in MESSAGES:
        yield from re.findall(r"`atrous ([a-z-]+(?: [^`]*)?)`", text)
        yield from re.findall(rf"(?<!`)\batrous ((?:{NAMES}) (?:[A-Z{{][^.,`]*))", text)


@pytest.mark.parametrize("text", sorted(set(find_named_commands())))
def test_commands_that_messages_name(text):
    name, *arguments = re.sub(" …| > .*", "", text).replace("{}", "64").split()
    if arguments and arguments[-1] in ("--out", "--fix"):  # `atrous train --out`, of a folder
        arguments.append("64")
    parse(COMMAND.commands[name], arguments)


def test_extras_that_messages_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = [path.read_text() for path in (ROOT / "src/atrous").rglob("*.py")]
    calls = r"import_extra\(\s*\S+, \"([a-z]+)\"\s*\)"
    named = {name for text in sources for name in re.findall(rf"atrous\[([a-z]+)\]|{calls}", text)}
    named = {name for pair in named for name in pair if name}
    assert named <= set(project["optional-dependencies"])
    assert {"export", "geo", "labels", "serve", "tensorboard", "video"} <= named
