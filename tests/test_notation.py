"""Text to network and back: drawn networks, equal ways of writing, mistakes with a caret, and hostile text."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
import oracle
import polyconv as pc
import strategies
from tolerance import assert_equal

NDIMS = st.integers(1, 3)


@given(NDIMS.flatmap(networks.stages), st.integers(0, 99))
def test_text_round_trips(stages, seed):
    text = networks.line(stages, random.Random(seed))
    net = pc.network(text)
    again = pc.network(str(net))
    assert again == net, text
    assert hash(again) == hash(net)
    assert str(again) == str(net)


@given(NDIMS.flatmap(networks.stages), st.integers(0, 99))
def test_the_order_of_words_and_the_space_between_them_do_not_matter(stages, seed):
    text = networks.line(stages, random.Random(seed))
    loose = re.sub(r"([(),|*])", r"  \1\t", networks.line(stages, random.Random(seed + 1))).replace(" ", "\n  ")
    assert pc.network(loose) == pc.network(text)
    assert str(pc.network(loose)) == str(pc.network(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("conv 3x3 64 stride 2", "conv 3x3 64 stride 2x2"),
        ("conv 3x3 64 padding 1", "conv 3x3 64 padding 1:1x1:1"),
        ("conv 3x3 64 dilation 1", "conv 3x3 64"),
        ("conv 3x3 64 valid", "conv 3x3 64 padding 0"),
        ("conv 3x3 64 groups 1", "conv 3x3 64"),
        ("maxpool 2x2", "maxpool 2x2 stride 2"),
        ("transposed 4x4 8 output_padding 0", "transposed 4x4 8"),
        ("depthwise 3x3 multiplier 1", "depthwise 3x3"),
        ("maxpool relu 3x3 stride 2", "maxpool 3x3 stride 2 | relu"),
        ("avgpool 3x3 exclude_pad silu", "avgpool 3x3 exclude_pad | silu"),
        ("globalpool max sigmoid", "globalpool max | sigmoid"),
        ("upsample 2 gelu", "upsample 2 | gelu"),
        ("conv 3x3 4 | batchnorm relu", "conv 3x3 4 | batchnorm | relu"),
        ("identity tanh", "identity | tanh"),
        ("add(identity, batchnorm) relu | relu6", "add(identity, batchnorm) | relu | relu6"),
        ("2 * (concat(identity, relu) hardswish)", "2 * (concat(identity, relu) | hardswish)"),
    ],
)
def test_equal_ways_of_writing(one, other):
    assert pc.network(one) == pc.network(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("conv 3x3 64", "conv 3x5 64"),
        ("conv 3x3 64", "conv 3x3 65"),
        ("conv 3x3 64", "conv 3x3 64 nobias"),
        ("conv 3x3 64", "conv 3x3 64 relu"),
        ("conv 3x3 64", "transposed 3x3 64"),
        ("conv 3x3 64 padding 0:1x0:1", "conv 3x3 64 padding 1:0x1:0"),
        ("conv 3x3 64 stride 2x1", "conv 3x3 64 stride 1x2"),
        ("concat(identity, conv 1 2)", "concat(conv 1 2, identity)"),
        ("conv 3 2 | relu6", "conv 3 2 | relu"),
    ],
)
def test_different_networks_are_not_equal(one, other):
    assert pc.network(one) != pc.network(other)
    assert str(pc.network(one)) != str(pc.network(other))


@pytest.mark.parametrize(
    ("short", "long", "shape"),
    [
        ("pointwise 64", "conv 1x1 64", (1, 3, 8, 9)),
        ("pointwise 64", "conv 1 64", (1, 3, 8)),
        ("pointwise 4", "conv 1x1x1 4", (1, 3, 4, 5, 6)),
        ("depthwise 3x3 multiplier 2", "conv 3x3 6 groups 3", (1, 3, 8, 9)),
        ("separable 3x3 64 stride 2 same", "depthwise 3x3 stride 2 same | pointwise 64", (1, 3, 8, 9)),
        ("spatial 3x5 64", "conv 3x1 64 | conv 1x5 64", (1, 3, 8, 9)),
        (
            "spatial 3x5 6 stride 2x3 padding 1x2",
            "conv 3x1 6 stride 2x1 padding 1x0 | conv 1x5 6 stride 1x3 padding 0x2",
            (1, 3, 8, 9),
        ),
        ("3 * (conv 3x3 4 same)", "conv 3x3 4 same | conv 3x3 4 same | conv 3x3 4 same", (1, 3, 8, 9)),
    ],
)
def test_short_forms_are_the_long_ones(short, long, shape):
    one, other = pc.network(short), pc.network(long)
    assert one.out_shape(shape) == other.out_shape(shape)
    ndim = len(shape) - 2
    weights = list(one.weights(shape[1], seed=4, ndim=ndim).values())
    named = other.weights(shape[1], ndim=ndim)
    assert [w.shape for w in weights] == [w.shape for w in named.values()]
    x = strategies.integers(shape, "float32", 1)
    y = one.bind(one.weights(shape[1], seed=4, ndim=ndim))(x)
    assert_equal(y, other.bind(dict(zip(named, weights, strict=True)))(x))


# -- mistakes ----------------------------------------------------------------------------------------------------------


def under_the_caret(message: str) -> str:
    """What stands in the shown text above the caret."""
    lines = message.splitlines()
    carets = [i for i, text in enumerate(lines) if re.fullmatch(r"\s*\^+\s*", text)]
    assert len(carets) == 1, f"no line with a caret in {message!r}"
    start, end = lines[carets[0]].index("^"), lines[carets[0]].rindex("^") + 1
    return lines[carets[0] - 1][start:end]


def mistake(text: str) -> str:
    with pytest.raises(ValueError, match=r"\^") as caught:
        pc.network(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "word", "needles"),
    [
        ("conv 3x3 64 dilatoin 2", "dilatoin", ["dilatoin", "did you mean 'dilation'"]),
        ("conv 3x3 64 strid 2", "strid", ["did you mean 'stride'"]),
        ("cnov 3x3 64", "cnov", ["did you mean 'conv'"]),
        ("conv 3x3 64 | maxpol 2x2", "maxpol", ["did you mean 'maxpool'"]),
        ("conv 3x3 64 rleu", "rleu", ["did you mean 'relu'"]),
        ("conv 3x3 64 smae", "smae", ["did you mean 'same'"]),
        ("depthwise 3x3 multiplyer 2", "multiplyer", ["did you mean 'multiplier'"]),
        ("contact(identity, identity)", "contact", ["did you mean 'concat'"]),
        ("conv 3x3 64 stride two", "two", ["stride"]),
        ("conv 3x3 64 stride 0", "0", ["stride", "1"]),
        ("conv 3x3 64 dilation 0", "0", ["dilation", "1"]),
        ("conv 0x3 64", "0", ["1"]),
        ("conv 3x3 0", "0", []),
        ("conv 3x3 64 stride 2x2x2", "2x2x2", ["stride"]),
        ("conv 3x3 64 padding -1", "-1", ["padding"]),
        ("conv 3x3 64 stride 2 stride 3", "stride", ["twice", "stride"]),
        ("conv 3x3 64 relu tanh", "tanh", ["relu"]),
        ("conv 3x3 64 same padding 1", "padding", ["same"]),
        ("conv 3x3 64 multiplier 2", "multiplier", ["multiplier"]),
        ("conv 3x3 64 output_padding 1", "output_padding", ["output_padding"]),
        ("maxpool 2x2 nobias", "nobias", []),
        ("conv 3x3 64 causal", "causal", ["1-D"]),
        ("conv 3x3 63 groups 2", "2", ["63", "2"]),
        ("conv 3.5x3 64", "3.5x3", []),
        ("transposed 3 4 stride 2 output_padding 2", "2", ["output_padding"]),
        ("0 * (relu)", "0", []),
        ("conv 3x3 64 | conv 3 64", "3", []),
        ("concat(relu, identity", "", [")"]),
        ("relu)", ")", []),
        ("conv 3x3 64 ||| relu", "|", []),
        ("conv 3x3 64 ; relu", ";", []),
    ],
)
def test_mistakes_are_shown_with_a_caret(text, word, needles):
    message = mistake(text)
    assert under_the_caret(message).strip() == word, message
    for needle in needles:
        assert needle.lower() in message.lower(), message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "conv",
        "conv 3x3",
        "conv 3x3 64 |",
        "| conv 3x3 64",
        "concat()",
        "3 *",
        "3 * ()",
        "conv 3x3 64 stride",
        "upsample",
        "maxpool",
        "concat(,)",
        "add(relu,)",
        "3 * relu )",
    ],
)
def test_what_is_missing_is_shown(text):
    """The caret stands where something was expected."""
    message = mistake(text)
    assert "\n" in message


def test_the_second_of_two_equal_words_is_marked():
    message = mistake("conv 3 4 | conv 3 4 | conv 3 four")
    lines = message.splitlines()
    caret = next(i for i, text in enumerate(lines) if re.fullmatch(r"\s*\^+\s*", text))
    assert lines[caret - 1][lines[caret].index("^") :].startswith("four")


def test_what_is_there_already_is_not_expected_again():
    with pytest.raises(pc.NotationError) as caught:
        pc.network("conv 3x3 8 stride 2 same groups 2 whatever")
    first = str(caught.value).splitlines()[0]
    assert first == (
        "read 'whatever', expected dilation, zeros, reflect, replicate, circular, nobias, relu, relu6, leaky_relu, "
        "silu, gelu, sigmoid, tanh, hardswish"
    )
    with pytest.raises(pc.NotationError, match="expected a scale such as 2, relu"):
        pc.network("upsample same")


def test_dilation_0_is_told_that_1_is_none():
    with pytest.raises(pc.NotationError, match=r"read '0', expected a number from 1 \(1 is none\) to"):
        pc.network("conv 3x3 8 dilation 0")


@pytest.mark.parametrize("text", ["relu relu", "add(identity, relu) 3", "2 * (relu) relu", "maxpool 2x2 relu gelu"])
def test_one_activation_after_a_layer(text):
    with pytest.raises(pc.NotationError):
        pc.network(text)


def test_no_suggestion_for_what_resembles_nothing():
    assert "did you mean" not in mistake("conv 3x3 64 qqqqqqqq 2").lower()


@pytest.mark.parametrize("text", [None, 3, b"conv 3x3 64", ["conv 3x3 64"]])
def test_what_is_no_text_is_refused(text):
    with pytest.raises((ValueError, TypeError), match=r"\S"):
        pc.network(text)


# -- hostile text ------------------------------------------------------------------------------------------------------

DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "add(" * DEEP,
        "add(" * DEEP + "relu" + ")" * DEEP,
        "2 * (" * DEEP + "relu" + ")" * DEEP,
        "add(" * 20_000,
        "add(" * 20_000 + "relu" + ")" * 20_000,
        "add(" * 200 + "relu" + ")" * 200,
        "1 * (" * 20_000 + "relu" + ")" * 20_000,
        "1 * (" * 500 + "relu" + ")" * 500,
        "concat(" + "identity," * 15_000 + "identity)",
        "relu | " * 15_000 + "relu",
        "2 * (" * 64 + "relu" + ")" * 64,
        "1000 * (" * 12 + "relu" + ")" * 12,
        "1000000000000 * (conv 3x3 64 same)",
        "9" * 10_000 + " * (relu)",
        "conv " + "9" * 10_000 + "x3 64",
        "conv 3x3 " + "9" * 5_000,
        "conv 3x3 64 stride " + "9" * 30,
        "concat(" + "identity," * 1_000_000 + "identity)",
        "relu | " * 1_000_000 + "relu",
        "x" * 5_000_000,
        "conv " + "3x" * 100_000 + "3 64",
        "conv 3x3 64 " + "relu " * 200_000,
        "(" * DEEP,
        ")" * DEEP,
        "\x00",
        "conv 3x3 64\x00relu",
        "conv ٣x٣ ٦٤",  # digits, but not those of the notation
        "conv ³x3 64",
        "conv 3×3 64",
        "CONV 3x3 64 \u202e relu",
        "conv 3x3 64 \ud800",
        "conv 0x10 64",
        "conv 1e3 64",
        "conv 1_0 64",
        "conv +3 64",
        "__import__('os')",
        "{0.__class__}",
        "%s%s%n",
    ],
    ids=range(38),
)
def test_hostile_text_is_refused_at_once(text):
    """ValueError and nothing else, in bounded time, with a message of bounded length."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"\S") as caught:
        pc.network(text)
    assert time.perf_counter() - start < 3
    assert len(str(caught.value)) < 2_000
    assert "\x00" not in str(caught.value)


def test_what_fits_the_bounds_is_taken():
    """The bounds leave room for real networks."""
    assert pc.network("64 * (conv 3x3 8 same relu)").out_shape((1, 8, 9, 9)) == (1, 8, 9, 9)
    nested = "identity"
    for _ in range(8):
        nested = f"add(identity, {nested})"
    assert pc.network(nested).out_shape((1, 2, 9)) == (1, 2, 9)


OPERATORS = (
    "conv pointwise depthwise separable spatial transposed maxpool avgpool globalpool upsample batchnorm identity"
)
WORDS = "stride padding dilation groups multiplier output_padding nobias same valid full causal concat add"
OTHERS = "| ( ) , * : x 0 1 2 3 1x1 3x3 3x1x2 0:1 0:1x2:0 -1 64 99999999999 conv("
TOKENS = [*f"{OPERATORS} {WORDS} {OTHERS}".split(), *oracle.ACTIVATIONS, "\n"]


@given(st.lists(st.sampled_from(TOKENS), max_size=12), st.sampled_from([" ", ""]))
def test_any_words_give_a_network_or_a_caret(words, glue):
    check_any(glue.join(words))


@given(st.text(max_size=40))
def test_any_text_gives_a_network_or_a_caret(text):
    check_any(text)


@given(NDIMS.flatmap(networks.stages), st.integers(0, 10**6), st.sampled_from("x:|(),* 0q"))
def test_any_damage_gives_a_network_or_a_caret(stages, where, what):
    text = networks.line(stages)
    where %= len(text)
    check_any(text[:where] + what + text[where + 1 :])


def check_any(text: str) -> None:
    try:
        net = pc.network(text)
    except ValueError as error:
        message = str(error)
    else:
        assert pc.network(str(net)) == net
        return
    assert re.search(r"^\s*\^+\s*$", message, re.MULTILINE), message
