"""Write the reference section of docs/cli.md from the commands themselves: ``python scripts/document_cli.py``.

With ``--check`` nothing is written; exit code 1 says that the page is not what the commands say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from motive_fo_cli.main import main as motive

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
BEGIN, END = "<!-- reference -->", "<!-- end -->"


def commands(group: click.Group = motive, path: tuple[str, ...] = ("motive",)) -> Iterator[tuple[str, click.Context]]:
    """Every command below a group by its full name, with the context its help is made in."""
    parent = click.Context(group, info_name=" ".join(path))
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            # one context deep, so that click prints the full name once
            yield " ".join((*path, name)), click.Context(command, info_name=" ".join((*path, name)))


def reference() -> str:
    """The section, as Markdown."""
    return "\n".join(line for name, ctx in commands() for line in _command(name, ctx)).strip() + "\n"


def page(text: str) -> str:
    """A page with its reference section renewed. Raises ``ValueError`` where the markers are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} needs the markers {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{reference()}\n{END}{tail}"


def _command(name: str, ctx: click.Context) -> Iterator[str]:
    command = ctx.command
    usage = " ".join(piece for piece in command.collect_usage_pieces(ctx) if piece != "[OPTIONS]")
    yield f"### `{name}`"
    yield ""
    yield f"`{f'{name} {usage}'.strip()}`"
    yield ""
    yield from _paragraphs(command.help or "")
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    rows = [record for option in options if (record := option.get_help_record(ctx)) is not None]
    yield "| option | meaning |"
    yield "|---|---|"
    for option, meaning in rows:
        if "--help" not in option:
            yield f"| `{_cell(option)}` | {_cell(meaning)} |"
    yield ""


def _paragraphs(text: str) -> Iterator[str]:
    """A help text: prose as it is, blocks that click must not wrap as code."""
    for part in text.strip().split("\n\n"):
        block = [line.strip() for line in part.splitlines()]
        if block[0] == "\b":
            yield from ("```bash", *(_as_comment(line) for line in block[1:]), "```")
        else:
            yield " ".join(block)
        yield ""


def _as_comment(line: str) -> str:
    """An example of a help text, whose explanation follows after spaces, as a line of shell."""
    example, gap, explanation = line.partition("  ")
    return f"{example}  # {explanation.strip()}" if gap else line


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    written, wanted = PAGE.read_text(encoding="utf-8"), page(PAGE.read_text(encoding="utf-8"))
    if "--check" in sys.argv:
        sys.exit(int(written != wanted))
    PAGE.write_text(wanted, encoding="utf-8")
