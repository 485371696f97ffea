"""A click group whose commands are imported when they run, so that ``zoo --help`` imports none of them."""

from __future__ import annotations

from importlib import import_module

import click

from zoo.errors import suggestion


class LazyCommand(click.Command):
    """A name, a summary and the ``module:attribute`` of the real command."""

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
    """Resolves :class:`LazyCommand` on use and suggests the nearest command for a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with, imported."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            raise click.UsageError(f"no such command {name!r}. {suggestion(name, self.commands)}", ctx)
        if isinstance(command, LazyCommand):
            return name, command.load(), args[1:]
        return super().resolve_command(ctx, args)
