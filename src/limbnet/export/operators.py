"""Writing ONNX nodes as arithmetic: values with operators, collected in the order in which they are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Kind = Literal["float32", "int64", "bool"]


class Operators:
    """Collects nodes and constants. All their names begin with a prefix, by which they can be told apart in a graph.

    Attributes:
        nodes: in the order in which they were asked for.
        constants: of the nodes, equal ones once.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._prefix = prefix
        self._known: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._made: dict[str, int] = {}

    def given(self, name: str, kind: Kind = "float32") -> Value:
        """Return a tensor that the graph already holds."""
        return Value(self, name, kind)

    def constant(self, values: Any, kind: Kind = "float32") -> Value:
        """Return a constant."""
        array = np.array(values, kind)
        key = (kind, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.named_constant(f"constant_{len(self._known) + 1}", array, kind)
        return self._known[key]

    def named_constant(self, name: str, values: Any, kind: Kind) -> Value:
        """Return a constant that can be found again by its name behind the prefix."""
        from onnx import numpy_helper

        name = f"{self._prefix}{name}"
        self.constants.append(numpy_helper.from_array(np.array(values, kind), name))
        return Value(self, name, kind)

    def integers(self, *values: int) -> Value:
        """Return a list of integers: a shape, axes, indices."""
        return self.constant(values, "int64")

    def __call__(self, operation: str, *inputs: Value, kind: Kind | None = None, **attributes: Any) -> Value:
        """Add a node with one output, which has the first input's kind unless another is named."""
        return self.several(operation, (kind or inputs[0].kind,), *inputs, **attributes)[0]

    def several(self, operation: str, kinds: tuple[Kind, ...], *inputs: Value, **attributes: Any) -> list[Value]:
        """Add a node with several outputs."""
        from onnx import helper

        self._made[operation] = number = self._made.get(operation, 0) + 1
        name = f"{self._prefix}{operation.lower()}_{number}"
        names = [name, *(f"{name}/{place}" for place in range(2, len(kinds) + 1))]
        self.nodes.append(helper.make_node(operation, [one.name for one in inputs], names, name=name, **attributes))
        return [Value(self, one, kind) for one, kind in zip(names, kinds, strict=True)]

    def output(self, value: Value, name: str) -> None:
        """Give a value the name of an output of the graph."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=f"{self._prefix}{name}"))

    def rename(self, value: Value, name: str) -> Value:
        """Give a value a name by which it can be found again behind the prefix."""
        from onnx import helper

        name = f"{self._prefix}{name}"
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
        return Value(self, name, value.kind)

    def concat(self, *parts: Value, axis: int = 0) -> Value:
        """Concatenate along an axis."""
        return self("Concat", *parts, axis=axis)

    def sizes(self, *sizes: Value | int) -> Value:
        """Return a shape; values are lists of one size or more."""
        if all(isinstance(size, int) for size in sizes):
            return self.integers(*(size for size in sizes if isinstance(size, int)))
        return self.concat(*(self.integers(size) if isinstance(size, int) else size for size in sizes))

    def where(self, condition: Value, yes: Value, no: Value | float) -> Value:
        """Choose element by element."""
        return self("Where", condition, yes, yes.like(no), kind=yes.kind)


class Value:
    """A tensor of a graph under construction. Arithmetic and comparisons add nodes; a number becomes a constant."""

    def __init__(self, op: Operators, name: str, kind: Kind) -> None:
        self.op = op
        self.name = name
        self.kind = kind

    def __repr__(self) -> str:
        return f"{self.name} ({self.kind})"

    def like(self, other: Value | float) -> Value:
        """Return the other value; a number as a constant of this one's kind."""
        return other if isinstance(other, Value) else self.op.constant(other, self.kind)

    def __add__(self, other: Value | float) -> Value:
        return self.op("Add", self, self.like(other))

    def __sub__(self, other: Value | float) -> Value:
        return self.op("Sub", self, self.like(other))

    def __mul__(self, other: Value | float) -> Value:
        return self.op("Mul", self, self.like(other))

    def __truediv__(self, other: Value | float) -> Value:
        assert self.kind == "float32"
        return self.op("Div", self, self.like(other))

    def __floordiv__(self, other: Value | int) -> Value:
        assert self.kind == "int64"  # ONNX rounds towards zero: for what is not negative only
        return self.op("Div", self, self.like(other))

    def __matmul__(self, other: Value) -> Value:
        return self.op("MatMul", self, other)

    def __neg__(self) -> Value:
        return self.op("Neg", self)

    def __gt__(self, other: Value | float) -> Value:
        return self.op("Greater", self, self.like(other), kind="bool")

    def __ge__(self, other: Value | float) -> Value:
        return self.op("GreaterOrEqual", self, self.like(other), kind="bool")

    def __lt__(self, other: Value | float) -> Value:
        return self.op("Less", self, self.like(other), kind="bool")

    def __le__(self, other: Value | float) -> Value:
        return self.op("LessOrEqual", self, self.like(other), kind="bool")

    def __and__(self, other: Value) -> Value:
        return self.op("And", self, other)

    def __or__(self, other: Value) -> Value:
        return self.op("Or", self, other)

    def __invert__(self) -> Value:
        return self.op("Not", self)

    def equals(self, other: Value | float) -> Value:
        """Compare element by element."""
        return self.op("Equal", self, self.like(other), kind="bool")

    def largest(self, *others: Value | float) -> Value:
        """Return the largest of several, element by element."""
        return self.op("Max", self, *(self.like(other) for other in others))

    def smallest(self, *others: Value | float) -> Value:
        """Return the smallest of several, element by element."""
        return self.op("Min", self, *(self.like(other) for other in others))

    def cast(self, kind: Kind) -> Value:
        """Convert to another kind."""
        from onnx import TensorProto

        types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}
        return self.op("Cast", self, kind=kind, to=types[kind])

    def shape(self) -> Value:
        """Return the sizes of the axes."""
        return self.op("Shape", self, kind="int64")

    def reshape(self, *sizes: Value | int) -> Value:
        """Reshape; -1 stands for what is left, 0 for the axis as it is. Values are lists of one size or more."""
        return self.op("Reshape", self, self.op.sizes(*sizes))

    def unsqueeze(self, *axes: int) -> Value:
        """Insert axes of size one."""
        return self.op("Unsqueeze", self, self.op.integers(*axes))

    def sum(self, axis: int, *, keep: bool = False) -> Value:
        """Add up along an axis."""
        return self.op("ReduceSum", self, self.op.integers(axis), keepdims=int(keep))

    def part(self, start: int, end: Value | int, axis: int) -> Value:
        """Slice along one axis."""
        last = end if isinstance(end, Value) else self.op.integers(end)
        return self.op("Slice", self, self.op.integers(start), last, self.op.integers(axis))

    def take(self, places: Value, axis: int) -> Value:
        """Take whole slices along an axis (Gather)."""
        return self.op("Gather", self, places, axis=axis)

    def pick(self, places: Value, axis: int) -> Value:
        """Take single elements along an axis (GatherElements); the other axes of `places` are this value's own."""
        return self.op("GatherElements", self, places, axis=axis)

    def top(self, count: Value, *, smallest: bool = False) -> tuple[Value, Value]:
        """Return the largest (or smallest) values along the last axis, the best first, and their places."""
        values, places = self.op.several(
            "TopK", (self.kind, "int64"), self, count, axis=-1, largest=int(not smallest), sorted=1
        )
        return values, places
