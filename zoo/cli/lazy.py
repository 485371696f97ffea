"""A click group that imports a command when it runs, so that ``zoo --help`` imports none."""

from __future__ import annotations

from importlib import import_module

import click

from zoo.errors import suggestion

RENAMED_COMMANDS: dict[str, str] = {}
"""Old command names that still work, with a warning, until release 0.3."""

RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "map": {"--least-area": "--min-area"},
    "polygons": {"--least-area": "--min-area"},
}
"""Old option names that still work until release 0.3, by command (``"risk map"`` for a command of a group)."""


def replace_renamed(command: str, arguments: list[str]) -> list[str]:
    """Replace renamed options in the arguments of a command and warn about each."""
    renamed = RENAMED_OPTIONS.get(command, {})
    replaced: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return replaced + arguments[position:]
        name, equals, value = argument.partition("=")
        if name in renamed:
            _warn_renamed(name, renamed[name])
            argument = renamed[name] + equals + value
        replaced.append(argument)
    return replaced


def _warn_renamed(old: str, new: str) -> None:
    prefix = click.style("warning: ", fg="yellow", bold=True)
    click.echo(f"{prefix}{old} is now called {new}; the old name will be removed in release 0.3", err=True)


class LazyCommand(click.Command):
    """A command that is imported when it runs.

    Args:
        name: name of the command.
        target: ``module:attribute`` of the real command.
        summary: text for the list of commands.
    """

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, help=summary, short_help=summary)
        self.target = target

    def load(self) -> click.Command:
        """Import the real command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group that imports a :class:`LazyCommand` on use, and suggests the nearest command for a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` begin with, imported, and its arguments with renamed options replaced."""
        name = args[0]
        if name in RENAMED_COMMANDS and name not in self.commands:
            _warn_renamed(name, RENAMED_COMMANDS[name])
            name = RENAMED_COMMANDS[name]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            raise click.UsageError(f"no such command {name!r}. {suggestion(name, self.commands)}", ctx)
        if isinstance(command, LazyCommand):
            return name, command.load(), replace_renamed(self._path(ctx, name), args[1:])
        return super().resolve_command(ctx, [name, *replace_renamed(self._path(ctx, name), args[1:])])

    @staticmethod
    def _path(ctx: click.Context, name: str) -> str:
        """Return the command's name below ``zoo``, such as ``risk map``."""
        parents = []
        while ctx.parent is not None:
            parents.append(ctx.info_name or "")
            ctx = ctx.parent
        return " ".join([*reversed(parents), name])
