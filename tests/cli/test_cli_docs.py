"""docs/cli.md says what the commands say, and every example anywhere is one that parses."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from motive_fo_cli.main import main

import motive_fo
from scripts.document_cli import PAGE, commands, page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = dict(commands())


def _parse(words):
    """Parse a command line as click would, without running it. Raises ``click.UsageError``."""
    command, ctx = main, click.Context(main, info_name="motive")
    while isinstance(command, click.Group):
        group = command.make_context(ctx.info_name, list(words), parent=ctx.parent)
        name, command, words = command.resolve_command(group, [*group._protected_args, *group.args])
        ctx = click.Context(command, parent=group, info_name=name)
    command.make_context(ctx.info_name, list(words), parent=ctx.parent)


def _example(line):
    """The words of an example line after ``motive``; shell syntax and explanations cut off. None for other lines."""
    line = line.strip().removeprefix("$ ")
    if inside := re.search(r"\$\((motive [^)]*)\)", line):
        line = inside[1]
    if not line.startswith("motive "):
        return None
    words = shlex.split(re.split(r"\s{2,}|\s[|>]+\s|\s#", line)[0])
    return words[1:]


def _help_examples():
    """Examples in help texts, those of groups included."""

    def texts(group, name):
        yield name, group.help or ""
        for key in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), key)
            if isinstance(command, click.Group):
                yield from texts(command, f"{name} {key}")
            else:
                yield f"{name} {key}", command.help or ""

    for name, text in texts(main, "motive"):
        for block in text.split("\n\n"):
            if block.lstrip().startswith("\b"):
                yield from ((name, line.strip()) for line in block.splitlines() if _example(line) is not None)


def _page_examples():
    for path in PAGES:
        blocks = re.findall(r"^```(console|bash|sh|shell)\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
        for kind, block in blocks:
            lines = [line.strip() for line in block.splitlines() if kind != "console" or line.startswith("$ ")]
            yield from ((path.name, line) for line in lines if _example(line) is not None)


def test_the_reference_is_what_the_commands_say():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "docs/cli.md is out of date: run python scripts/document_cli.py"


def test_every_command_has_an_example_in_its_help_and_one_on_the_page():
    by_help = {" ".join(line.split()) for _, line in _help_examples()}
    prose = PAGE.read_text(encoding="utf-8").partition("<!-- reference -->")[0]
    for name, ctx in COMMANDS.items():
        spoken = name.removesuffix(" compute")  # the one subcommand that is implied
        assert any(line.startswith(spoken) or f"$({spoken}" in line for line in by_help), name
        group = spoken.rsplit(" ", 1)[0] if spoken.count(" ") > 1 else spoken
        assert re.search(rf"^\$ {group}\b", prose, re.MULTILINE), f"{name} is in no example of docs/cli.md"
        assert ctx.command.help, name


@pytest.mark.parametrize(("where", "line"), sorted({*_help_examples(), *_page_examples()}))
def test_every_example_parses(where, line):
    _parse(_example(line))


def test_the_check_of_examples_finds_what_is_wrong():
    for line in ("motive gradients x --no-such-option", "motive nothing x", "motive export x", "motive run --init=3 x"):
        with pytest.raises(click.UsageError):
            _parse(_example(line))


def test_every_option_named_in_the_pages_exists():
    """In running text too: ``--word`` in backticks beside one of our commands is an option of it."""
    for path in PAGES:
        for name, rest in re.findall(r"`motive ([a-z-]+(?: [a-z-]+)?)((?: [^`]*)?)`", path.read_text("utf-8")):
            for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
                known = [ctx for full, ctx in COMMANDS.items() if full.startswith(f"motive {name.split()[0]}")]
                options = {each for ctx in known for param in ctx.command.get_params(ctx) for each in param.opts}
                assert option in options | {"--help", "--version"}, f"{path.name}: motive {name}{rest}"


def _table():
    """Rows of the table in docs/reference.md that maps function, command and operator."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    lines = text[text.index("| what it does | Python | command line | operator in the App |") :].splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:end]]


def test_one_table_maps_every_function_command_and_operator():
    rows = _table()
    assert all(len(row) == 4 for row in rows)
    functions = {name for row in rows for name in re.findall(r"`(?:[\w.]+\.)?(\w+)\(", row[1])}
    public = {name for name in motive_fo.__all__ if not isinstance(getattr(motive_fo, name), type)}
    assert public <= functions, f"not in the table: {sorted(public - functions)}"
    named = {line for row in rows for line in re.findall(r"`(motive [^`]*)`", row[2])}
    for name in COMMANDS:
        spoken = name.removesuffix(" compute")
        assert any(line == spoken or line.startswith(f"{spoken} ") for line in named), f"{name} is not in the table"
    for line in named:
        assert any(line.startswith(name.removesuffix(" compute")) for name in COMMANDS), f"there is no `{line}`"
    operators = yaml.safe_load((ROOT / "fiftyone.yml").read_text(encoding="utf-8"))["operators"]
    labels = {row[3] for row in rows} - {"-"}
    assert labels == {f"Motive: {name.replace('_', ' ')}" for name in operators}


def test_help_fits_and_explains_every_option():
    for name, ctx in COMMANDS.items():
        for param in ctx.command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{name} {param.opts[0]} has no help"
        for line in ctx.command.get_help(ctx).splitlines():
            assert len(line) <= 120, (name, line)
