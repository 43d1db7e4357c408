"""How a command line is read: forgiving about dashes, strict about names, and wrong ones are answered in words."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from limbnet.commands import flags
from limbnet.errors import UsageError, nearest

log = logging.getLogger(__name__)

DASHES = "-\N{EN DASH}\N{EM DASH}"


class CommandParser(argparse.ArgumentParser):
    """Parses the flags of one command.

    The number and kind of dashes do not matter (`-normalizer`, `--normalizer`, and the typographic dash of a copied
    manual page are one), nor does a hyphen for an underscore. Everything else must be spelt as declared.
    """

    def __init__(self, command: str, text: str) -> None:
        super().__init__(
            prog=f"limbnet {command}", description=text, allow_abbrev=False, formatter_class=_Formatter, add_help=False
        )
        self.command = command
        self.add_argument("-h", "--help", action="help", help="show this text")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words after the command.

        Raises:
            UsageError: an unknown flag (with the nearest one), a missing one, a value of the wrong kind.
        """
        spelt = [self._spelt(word) for word in words[: self._end_of_flags(words)]]
        strange = [word for word in spelt if self._is_strange(word)]
        if strange:
            known = list(self._option_string_actions)
            self.error("; ".join(f"unknown flag '{word}'.{nearest(word, known)}" for word in strange))
        arguments, left = self.parse_known_args([*spelt, *words[len(spelt) :]])
        if left:
            self.error(f"'{' '.join(left)}' belongs to no flag.")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise the `UsageError` for what argparse found."""
        raise UsageError(f"{self.command}: {message}", f"'{self.prog} --help' lists the flags.")

    @staticmethod
    def _end_of_flags(words: Sequence[str]) -> int:
        return words.index("--") if "--" in words else len(words)

    def _spelt(self, word: str) -> str:
        """Return a word; a flag in a spelling that is declared."""
        known = self._option_string_actions
        flag, equals, value = word.partition("=")
        name = flag.lstrip(DASHES).replace("-", "_")
        if flag[:1] in DASHES and flag not in known and name:
            flag = next((other for other in (f"--{name}", f"-{name}") if other in known), flag)
        return flag + equals + value

    def _is_strange(self, word: str) -> bool:
        """Tell whether a word looks like a flag that is not declared; `-4`, `-n8` and `-m./file` do not.

        A letter is never glued to a short flag: `-resume` would else be `-r esume`.
        """
        known = self._option_string_actions
        if word[:1] not in DASHES or len(word) < 2 or word[1].isdigit() or word[1] == ".":
            return False
        glued = word[:2] in known and not word[2:3].isalpha()
        return not glued and word.partition("=")[0] not in known


class _Formatter(argparse.HelpFormatter):
    """Help with each flag's default, flags in one column."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=36, width=110, **options)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, argparse.SUPPRESS, False, True, (), (None,), []) or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def command_parser(name: str, module: ModuleType) -> CommandParser:
    """Return the parser of a command's flags."""
    parser = CommandParser(name, module.HELP)
    module.add_arguments(parser)
    flags.log_level(parser)
    return parser


def run_command(name: str, module: ModuleType, words: Sequence[str]) -> int:
    """Parse the words after a command's name, set up logging, and run it."""
    arguments = command_parser(name, module).read(words)
    from limbnet.console import set_up_logging

    set_up_logging(arguments.log_level)
    for notice in getattr(arguments, "notices", []):
        log.warning(notice)
    return module.run(arguments) or 0
