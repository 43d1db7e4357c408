"""What a runtime says about a graph that it cannot run: which operator, in its own words."""

from __future__ import annotations

import re

from limbnet.errors import ModelFileError

#: Where messages name an operator: ONNX Runtime's, OpenVINO's and those of torch's exporter.
_NAMED = (
    r"Could not find an implementation for ([\w.:]+)\(-?\d+\)",
    r"No Op registered for ([\w.:]+) with",
    r"Fatal error: ([\w.:]+)\(-?\d+\) is not a registered",
    r"of operator \(([\w.:]+)\) in node",
    r"while running ([\w.:]+) node",
    r"No conversion rule found for operations: (.+)",
    r"Conversion is failed for: (.+)",
    r"While validating ONNX node '<Node\((\w+)\)",
    r"While validating node '(?:\w+::)?(\w+)",
    r"Unsupported operation of type: ([\w.:]+)",
    r"OpOverload\(op='([\w.:]+)'",
)


class EngineRefusal(ModelFileError):
    """A runtime cannot run a network, or runs it wrongly.

    Args:
        engine: the runtime, with its version where that counts.
        error: what it said, or what was found.
        network: what the message calls it.
        todo: what to do about it.

    Attributes:
        engine: as given.
        said: the message alone.
        reason: of its lines the one that names operators, all of it where none does.
        operators: those that the message names; none where it names none.
    """

    def __init__(self, engine: str, error: Exception | str, network: str = "the network", todo: str = "") -> None:
        self.engine = engine
        self.said = str(error).strip()
        self.operators = named_operators(self.said)
        lines = [line.strip(" -") for line in self.said.splitlines()]
        self.reason = next((line for line in lines if named_operators(line)), self.said)
        super().__init__(f"{engine} refuses {network}: {self.said}", todo)


def named_operators(message: str) -> tuple[str, ...]:
    """Return the operators that a runtime's message names as the reason, each once."""
    for pattern in _NAMED:
        found = re.findall(pattern, message)
        if found:
            names = [re.sub(r"-\d+$", "", name.strip()) for part in found for name in part.split(",")]
            return tuple(dict.fromkeys(names))
    return ()
