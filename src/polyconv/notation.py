"""Text to network and back.

Stages are joined by ``|``; the words after an operator come in any order. ``render`` writes the canonical text.
Every mistake is a ``NotationError`` that shows the text with a caret under the word, what was read and what fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn, cast

from polyconv._checks import LARGEST, choice, did_you_mean
from polyconv.geometry import PADDING_WORDS
from polyconv.layers import (
    ACTIVATIONS,
    PADDING_MODES,
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    GlobalPool,
    Identity,
    Layer,
    Pairs,
    Pool,
    Separable,
    Sizes,
    Spatial,
    Upsample,
)
from polyconv.network import MAX_DEPTH, MAX_STAGES, Branches, Network, Stage

MAX_TEXT = 200_000
_TOKEN = re.compile(r"\s*([|,()*]|[^\s|,()*]+)")
_NUMBERS = re.compile(r"\d+(?:x\d+)*")
_PADS = re.compile(r"\d+(?::\d+)?(?:x\d+(?::\d+)?)*")


class NotationError(ValueError):
    """A text that is not a network. The message shows where, what was read, and what fits.

    Example:
        >>> import polyconv as pc
        >>> try:
        ...     pc.network("conv 3x3 64 dilaton 2")
        ... except pc.NotationError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        read 'dilaton', ... did you mean 'dilation'?
          conv 3x3 64 dilaton 2
                      ^^^^^^^
    """


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int


@dataclass(frozen=True)
class _Operator:
    """What an operator takes: how many bare numbers mean what, which keywords and words, how to build it."""

    build: Callable[[dict[str, Any]], Layer]
    kernel: bool = False
    out_channels: bool = False
    numbers: tuple[str, ...] = ()  # keywords followed by one number, or one per axis
    counts: tuple[str, ...] = ()  # keywords followed by one number
    padding: bool = False
    words: dict[str, tuple[str, Any]] = field(default_factory=dict)  # word -> (field, value)
    then: dict[str, tuple[str, Any]] = field(default_factory=dict)  # activations that become a stage of their own

    @property
    def keywords(self) -> tuple[str, ...]:
        return (*self.numbers, *self.counts, *(("padding",) if self.padding else ()))

    def expects(self, given: Collection[str] = ()) -> tuple[str, ...]:
        """What may follow where the fields ``given`` are there already."""
        kernel = "a scale such as 2" if self.build is _upsample else "a kernel such as 3x3"
        bare = {"kernel_size": (kernel, self.kernel), "out_channels": ("out_channels", self.out_channels)}
        return (
            *(name for key, (name, taken) in bare.items() if taken and key not in given),
            *(key for key in self.keywords if key not in given),
            *(word for word, (key, _) in {**self.words, **self.then}.items() if key not in given),
        )


_ACTIVATED = {name: ("activation", name) for name in ACTIVATIONS}
_PADDED = {word: ("padding", word) for word in PADDING_WORDS}
_MODES = {mode: ("padding_mode", mode) for mode in PADDING_MODES}
_CEIL = {"ceil": ("ceil_mode", True)}
_NOBIAS = {"nobias": ("bias", False)}
_CONV_WORDS = _PADDED | _MODES | _NOBIAS | _ACTIVATED
_WINDOW = ("stride", "dilation")


def _pool(kind: str) -> Callable[[dict[str, Any]], Layer]:
    return lambda fields: Pool(kind=cast(Any, kind), **fields)


def _depthwise(fields: dict[str, Any]) -> Layer:
    return Conv(out_channels=None, groups=None, **fields)


def _separable(fields: dict[str, Any]) -> Layer:
    multiplier = fields.pop("multiplier", 1)
    return Separable.of(Conv(**fields), multiplier)


def _upsample(fields: dict[str, Any]) -> Layer:
    return Upsample(fields.pop("kernel_size"))


_OPERATORS: dict[str, _Operator] = {
    "conv": _Operator(
        lambda fields: Conv(**fields),
        kernel=True,
        out_channels=True,
        numbers=_WINDOW,
        counts=("groups",),
        padding=True,
        words=_CONV_WORDS,
    ),
    "pointwise": _Operator(
        lambda fields: Conv(kernel_size=None, **fields),
        out_channels=True,
        numbers=("stride",),
        counts=("groups",),
        padding=True,
        words=_CONV_WORDS,
    ),
    "depthwise": _Operator(
        _depthwise,
        kernel=True,
        numbers=_WINDOW,
        counts=("multiplier",),
        padding=True,
        words=_CONV_WORDS,
    ),
    "separable": _Operator(
        _separable,
        kernel=True,
        out_channels=True,
        numbers=_WINDOW,
        counts=("multiplier",),
        padding=True,
        words=_CONV_WORDS,
    ),
    "spatial": _Operator(
        lambda fields: Spatial(Conv(**fields)),
        kernel=True,
        out_channels=True,
        numbers=_WINDOW,
        padding=True,
        words=_CONV_WORDS,
    ),
    "transposed": _Operator(
        lambda fields: ConvTranspose(**fields),
        kernel=True,
        out_channels=True,
        numbers=(*_WINDOW, "output_padding"),
        counts=("groups",),
        padding=True,
        words=_PADDED | _NOBIAS | _ACTIVATED,
    ),
    "maxpool": _Operator(
        _pool("max"), kernel=True, numbers=_WINDOW, padding=True, words=_PADDED | _CEIL, then=_ACTIVATED
    ),
    "avgpool": _Operator(
        _pool("avg"),
        kernel=True,
        numbers=("stride",),
        padding=True,
        words=_PADDED | _CEIL | {"exclude_pad": ("count_include_pad", False)},
        then=_ACTIVATED,
    ),
    "globalpool": _Operator(
        lambda fields: GlobalPool(**fields), words={"max": ("kind", "max"), "avg": ("kind", "avg")}, then=_ACTIVATED
    ),
    "upsample": _Operator(_upsample, kernel=True, then=_ACTIVATED),
    "batchnorm": _Operator(lambda fields: BatchNorm(), then=_ACTIVATED),
    "identity": _Operator(lambda fields: Identity(), then=_ACTIVATED),
    **{name: _Operator(lambda fields, name=name: Activation(name)) for name in ACTIVATIONS},  # type: ignore[misc]
}
_JOINS = ("concat", "add")


def options(operator: str) -> frozenset[str]:
    """What may follow an operator: its keywords and words, and "kernel" and "out_channels" where it takes them.

    Raises:
        ValueError: for a word that is no operator.

    Example:
        >>> sorted(options("globalpool"))
        ['avg', 'max']
    """
    found = _OPERATORS[choice(operator, tuple(_OPERATORS), "operator")]
    bare = (*(("kernel",) if found.kernel else ()), *(("out_channels",) if found.out_channels else ()))
    return frozenset((*bare, *found.keywords, *found.words))


def network(text: str | Network | Stage) -> Network:
    """The network that a line of notation describes.

    Args:
        text: stages joined by ``|``, for example "conv 3x3 64 stride 2 padding 1 relu | maxpool 2x2"; a layer is
            taken as a network of one stage, a network as it is.

    Returns:
        A frozen network; ``str`` of it is the canonical text.

    Raises:
        NotationError: with a caret under the first word that does not fit.

    Example:
        >>> str(network("depthwise 3x3 stride 2 padding 1x1 | pointwise relu 64"))
        'depthwise 3x3 stride 2 padding 1 | pointwise 64 relu'
    """
    if isinstance(text, Network):
        return text
    if isinstance(text, Layer | Branches):
        return Network((text,))
    if not isinstance(text, str):
        raise TypeError(f"a network is written as text, such as 'conv 3x3 64 same', got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise NotationError(f"the text has {len(text)} characters, at most {MAX_TEXT} are read")
    return _parsed(text)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Network:
    parser = _Parser(text)
    stages = parser.sequence(depth=0)
    if parser.peek() is not None:
        parser.fail("'|' between stages", parser.peek())
    try:
        return Network(tuple(stages))
    except NotationError:
        raise
    except ValueError as error:
        raise NotationError(str(error)) from None


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [_Token(found[1], found.start(1)) for found in _TOKEN.finditer(text)]
        self.next = 0
        self.ndim: int | None = None  # of the first stage that says

    def peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self) -> _Token | None:
        token = self.peek()
        self.next += token is not None
        return token

    def accept(self, text: str) -> bool:
        token = self.peek()
        found = token is not None and token.text == text
        self.next += found
        return found

    def expect(self, text: str, why: str) -> None:
        if not self.accept(text):
            self.fail(f"{text!r} {why}", self.peek())

    def fail(self, fits: str, token: _Token | None, hint: str = "", problem: str = "") -> NoReturn:
        """Raise with the line, a caret under ``token`` (or under the end), what was read and what fits."""
        start, length = (token.start, len(token.text)) if token else (len(self.text.rstrip()), 1)
        line, column = self._window(start)
        read = problem or (f"read {_short(token.text)!r}" if token else "the text ends here")
        caret = " " * column + "^" * max(1, min(length, len(line) - column))
        said = f"{read}, expected {fits}{hint}" if fits else read
        raise NotationError(f"{said}\n  {line}\n  {caret}")

    def _window(self, start: int) -> tuple[str, int]:
        """The part of the text around ``start``, on one line, and where ``start`` is in it."""
        first = max(0, start - 60)
        shown = "".join(char if char.isprintable() else " " for char in self.text[first : start + 60])
        return (("..." if first else "") + shown, start - first + (3 if first else 0))

    def sequence(self, depth: int) -> list[Stage]:
        if depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels", self.peek(), problem="brackets are nested too deep")
        stages = self.stage(depth)
        while self.accept("|"):
            stages += self.stage(depth)
            if len(stages) > MAX_STAGES:
                self.fail(f"at most {MAX_STAGES}", self.peek(), problem=f"there are {len(stages)} stages")
        return stages

    def stage(self, depth: int) -> list[Stage]:
        token = self.take()
        if token is None or token.text in "|,()*":
            self.fail("an operator such as conv", token)
        if token.text.isascii() and token.text.isdigit():
            return self.repeat(token, depth)
        if token.text in _JOINS:
            return [self.join(token, depth), *self.activation()]
        operator = _OPERATORS.get(token.text)
        if operator is None:
            options = (*_OPERATORS, *_JOINS)
            self.fail("an operator: " + ", ".join(options), token, did_you_mean(token.text, options))
        return self.layer(token, operator)

    def repeat(self, token: _Token, depth: int) -> list[Stage]:
        times = self.number(token, 1)
        self.expect("*", f"after the number of repeats, as in {_short(token.text)} * (conv 3x3 64 same)")
        self.expect("(", "around what is repeated")
        stages = self.sequence(depth + 1)
        self.expect(")", "after what is repeated")
        size = sum(map(_size, stages))
        if times * size > MAX_STAGES:
            self.fail(f"at most {MAX_STAGES}", token, problem=f"{times} repeats of {size} layers are {times * size}")
        return stages * times

    def join(self, token: _Token, depth: int) -> Branches:
        self.expect("(", f"after {token.text}, as in {token.text}(identity, conv 3x3 64 same)")
        branches = [tuple(self.sequence(depth + 1))]
        while self.accept(","):
            branches.append(tuple(self.sequence(depth + 1)))
        self.expect(")", f"or ',' after a branch of {token.text}")
        return Branches(cast(Any, token.text), tuple(branches))

    def activation(self) -> list[Stage]:
        """The activation named after a join's brackets, as a stage of its own; none where there is none."""
        token = self.peek()
        if token is None or token.text not in ACTIVATIONS:
            return []
        self.next += 1
        return [Activation(token.text)]

    def layer(self, name: _Token, operator: _Operator) -> list[Stage]:
        """One layer; and its activation as a second one where it has no field for it."""
        fields: dict[str, Any] = {}
        where: dict[str, _Token] = {}  # the word that gave each field
        while (token := self.peek()) is not None and token.text not in "|,()*":
            self.next += 1
            key, value = self.word(name, operator, token, fields)
            if key in fields:
                self.fail("each at most once", token, problem=f"{name.text} has {key} twice")
            fields[key], where[key] = value, self.tokens[self.next - 1]
        if operator.kernel and "kernel_size" not in fields:
            what = "a scale, as in upsample 2" if name.text == "upsample" else f"a kernel, as in {name.text} 3x3"
            self.fail(what, name, problem=f"{name.text} has no size")
        if operator.out_channels and "out_channels" not in fields:
            self.fail("a number of output channels", name, problem=f"{name.text} has no out_channels")
        after = [Activation(fields.pop("activation"))] if operator.then and "activation" in fields else []
        try:
            layer = operator.build(fields)
        except ValueError as error:
            self.fail("", _blamed(str(error), where) or name, problem=str(error))
        self.check_rank(layer, where.get("kernel_size", name))
        return [layer, *after]

    def check_rank(self, layer: Layer, token: _Token) -> None:
        """Refuse a stage with another number of axes than the stages before it."""
        if layer.ndim is None:
            return
        if self.ndim not in (None, layer.ndim):
            read = f"this stage is {layer.ndim}-D, one before it is {self.ndim}-D"
            self.fail("one number for each spatial axis, as in 3x3 for pictures", token, problem=read)
        self.ndim = layer.ndim

    def word(self, name: _Token, operator: _Operator, token: _Token, fields: dict[str, Any]) -> tuple[str, Any]:
        """What one word, and the number after it where it is a keyword, says: (field, value)."""
        text = token.text
        if _NUMBERS.fullmatch(text):
            return self.bare(name, operator, token, fields)
        said = operator.words.get(text) or operator.then.get(text)
        if said:
            return said
        if text not in operator.keywords:
            fits = ", ".join(operator.expects(fields)) or f"nothing after {name.text}"
            self.fail(fits, token, did_you_mean(text, (*operator.keywords, *operator.words, *operator.then)))
        value = self.take()
        if value is None or value.text in "|,()*":
            self.fail(f"a number after {text}", value)
        if text == "padding":
            return text, self.pads(value)
        minimum = 0 if text == "output_padding" else 1
        if text in operator.counts:
            return text, self.number(value, minimum)
        sizes = self.sizes(value, minimum, text)
        return text, sizes[0] if len(sizes) == 1 else sizes

    def bare(self, name: _Token, operator: _Operator, token: _Token, fields: dict[str, Any]) -> tuple[str, Any]:
        """A number without a keyword: the kernel, then the output channels."""
        sizes = self.sizes(token, 1)
        if operator.kernel and "kernel_size" not in fields and (len(sizes) > 1 or not self.kernel_follows(operator)):
            return "kernel_size", sizes
        if operator.out_channels and "out_channels" not in fields and len(sizes) == 1:
            return "out_channels", sizes[0]
        return self.fail(", ".join(operator.expects(fields)) or f"nothing after {name.text}", token)

    def kernel_follows(self, operator: _Operator) -> bool:
        """Whether a kernel of several axes stands later in this stage, so that a lone number is the channels."""
        previous = ""
        for token in self.tokens[self.next :]:
            if token.text in "|,()*":
                return False
            if _NUMBERS.fullmatch(token.text) and "x" in token.text and previous not in operator.keywords:
                return operator.out_channels
            previous = token.text
        return False

    def number(self, token: _Token, minimum: int, keyword: str = "") -> int:
        if not (token.text.isascii() and token.text.isdigit()):
            self.fail("a whole number", token)
        if len(token.text) > 10 or not minimum <= int(token.text) <= LARGEST:
            none = " (1 is none)" if keyword == "dilation" else ""
            self.fail(f"a number from {minimum}{none} to {LARGEST}", token)
        return int(token.text)

    def sizes(self, token: _Token, minimum: int, keyword: str = "") -> Sizes:
        if not _NUMBERS.fullmatch(token.text):
            self.fail("a number such as 2, or one per axis such as 2x1", token)
        return tuple(self.number(_Token(part, token.start), minimum, keyword) for part in token.text.split("x"))

    def pads(self, token: _Token) -> int | str | tuple[tuple[int, int], ...]:
        if token.text in PADDING_WORDS:
            return token.text
        if not _PADS.fullmatch(token.text):
            fits = "a number such as 1, one per axis such as 1x2, before:after such as 0:1x0:1, or "
            self.fail(fits + ", ".join(PADDING_WORDS), token, did_you_mean(token.text, PADDING_WORDS))
        pairs = []
        for part in token.text.split("x"):
            sides = [self.number(_Token(side, token.start), 0) for side in part.split(":")]
            pairs.append((sides[0], sides[-1]))
        if len(pairs) == 1 and ":" not in token.text:
            return pairs[0][0]
        return tuple(pairs)


def _blamed(message: str, where: dict[str, _Token]) -> _Token | None:
    """The word that gave the field which an error names first."""
    named = [key for key in where if key in message]
    return where[min(named, key=message.index)] if named else None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _size(stage: Stage) -> int:
    """How many layers a stage holds."""
    if isinstance(stage, Branches):
        return 1 + sum(_size(inner) for branch in stage.branches for inner in branch)
    return len(stage.parts())


def render(stages: tuple[Stage, ...]) -> str:
    """The canonical text of stages."""
    return " | ".join(map(_stage_text, stages))


def _stage_text(stage: Stage) -> str:
    if isinstance(stage, Branches):
        return f"{stage.kind}({', '.join(map(render, stage.branches))})"
    words = [word for word in _words(stage) if word]
    return " ".join(words)


def _words(layer: Layer) -> list[str]:
    match layer:
        case Conv():
            return _conv_words(layer)
        case ConvTranspose():
            extra = cast(Sizes, layer.output_padding)
            out = f"output_padding {_dims(extra)}" if any(extra) else ""
            window = [*_stride(layer.stride), *_pads(layer.padding), out, *_dilation(layer.dilation)]
            head = ["transposed", "x".join(map(str, layer.kernel_size)), str(layer.out_channels)]
            return [*head, *window, _groups(layer.groups), _bias(layer.bias), layer.activation or ""]
        case Pool():
            stride = [] if layer.stride == layer.kernel_size else [f"stride {_dims(cast(Sizes, layer.stride))}"]
            flags = ["ceil" if layer.ceil_mode else "", "" if layer.count_include_pad else "exclude_pad"]
            head = [f"{layer.kind}pool", "x".join(map(str, layer.kernel_size))]
            return [*head, *stride, *_pads(layer.padding), *_dilation(layer.dilation), *flags]
        case GlobalPool():
            return ["globalpool", "" if layer.kind == "avg" else layer.kind]
        case Upsample():
            return ["upsample", "x".join(map(str, cast(Sizes, layer.scale)))]
        case Activation():
            return [layer.name]
        case Separable():
            return _separable_words(layer)
        case Spatial():
            return ["spatial", *_conv_words(layer.full)[1:]]
        case _:
            return [type(layer).__name__.lower()]


def _conv_words(layer: Conv) -> list[str]:
    kernel = "" if layer.kernel_size is None else "x".join(map(str, layer.kernel_size))
    if layer.depthwise:
        head = ["depthwise", kernel, f"multiplier {layer.multiplier}" if layer.multiplier > 1 else ""]
    else:
        head = ["pointwise" if layer.kernel_size is None else "conv", kernel, str(layer.out_channels)]
    mode = "" if layer.padding_mode == "zeros" else layer.padding_mode
    window = [*_stride(layer.stride), *_pads(layer.padding), *_dilation(layer.dilation)]
    return [*head, *window, _groups(layer.groups), mode, _bias(layer.bias), layer.activation or ""]


def _separable_words(layer: Separable) -> list[str]:
    _, kernel, multiplier, *window = _conv_words(layer.depthwise)
    return [
        "separable",
        kernel,
        str(layer.pointwise.out_channels),
        multiplier,
        *window,
        layer.pointwise.activation or "",
    ]


def _dims(values: Sizes) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _stride(stride: object) -> list[str]:
    values = cast(Sizes, stride)
    return [] if set(values) == {1} else [f"stride {_dims(values)}"]


def _dilation(dilation: object) -> list[str]:
    values = cast(Sizes, dilation)
    return [] if set(values) == {1} else [f"dilation {_dims(values)}"]


def _pads(padding: object) -> list[str]:
    if isinstance(padding, str):
        return [] if padding == "valid" else [padding]
    pairs = cast(Pairs, padding)
    if all(before == after for before, after in pairs):
        return [f"padding {_dims(tuple(before for before, _ in pairs))}"]
    return ["padding " + "x".join(f"{before}:{after}" for before, after in pairs)]


def _groups(groups: int | None) -> str:
    return "" if groups in (None, 1) else f"groups {groups}"


def _bias(bias: bool) -> str:
    return "" if bias else "nobias"
