"""The studio's routes without a browser: bounds, hostile texts, whose page may ask."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

import polyconv as pc
from polyconv.see.studio.picture import MAX_BYTES
from polyconv.see.studio.server import StudioServer


@pytest.fixture(scope="module")
def server() -> Iterator[StudioServer]:
    made = StudioServer()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def asked(server, path, method="GET", body=None, **headers):
    """Status, headers and content of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def view(server, **query):
    status, _, content = asked(server, f"/api/view?{urlencode(query)}")
    assert status == 200
    return json.loads(content)


def upload(server, content, **query):
    origin = server.url.rstrip("/")
    status, _, answer = asked(server, f"/api/picture?{urlencode(query)}", "POST", content, Origin=origin)
    return status, answer.decode() if status != 200 else json.loads(answer)


def png(height, width):
    file = io.BytesIO()
    Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width) % 251).save(file, "PNG")
    return file.getvalue()


def test_numbers_are_those_of_the_library(server):
    answer = view(server, net="conv 3x3 8 stride 2 same relu | maxpool 2x2", input="3x224x200")
    report = pc.network("conv 3x3 8 stride 2 same relu | maxpool 2x2").count((1, 3, 224, 200))
    figures = {figure["name"]: figure["value"] for figure in answer["figures"]}
    assert figures == {
        "output": "8x56x50",
        "parameters": f"{report.params:,}",
        "MACs": "2.42 M",
        "receptive field": "5x5",
    }
    assert [row[1] for row in answer["layers"]["rows"]] == ["conv 3x3 8 stride 2 same relu", "maxpool 2x2"]
    assert "Drawn here on an input of" in answer["drawing"]["note"]
    assert answer["drawing"]["frames"].keys() == {"0"}


def test_frames_are_those_of_the_drawing(server):
    from polyconv.see.svg import one

    made = pc.network("conv 3x3 1").draw((5, 5), 1)
    query = urlencode({"net": "conv 3x3 1", "input": "1x5x5", "first": "4"})
    found = json.loads(asked(server, f"/api/frames?{query}")[2])["frames"]
    assert sorted(map(int, found)) == [4, 5, 6, 7, 8]
    for index, markup in found.items():
        assert markup == "".join(map(one, made.frames[int(index)].shapes))


def test_warnings_and_comparison(server):
    answer = view(server, net="relu | transposed 3x3 8 stride 2", input="4x8x8", stage="1")
    assert "kernel 3 is not a multiple of stride 2" in answer["advice"][0]["what"]
    assert answer["compare"]["rows"][0]["kind"] == "standard"
    assert view(server, net="relu | conv 3x3 8", input="4x8x8")["compare"]["problem"].startswith(
        "relu is no convolution"
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"net": "conv 3x3 8 stirde 2"}, "did you mean 'stride'"),
        ({"net": ""}, "the text is empty"),
        ({"net": "conv 3x3 8" * 300}, "the studio reads at most 2,000"),
        (
            {"net": "conv 3x3 8", "input": "3x1000000x1000000"},
            "1,000,000 along an axis, the studio takes at most 4,096",
        ),
        ({"net": "conv 3x3 8", "input": "1000000000000x3x3"}, "is no size"),
        ({"net": "conv 3x3 8", "input": "0x5x5"}, "is empty"),
        ({"net": "conv 3x3x3 8", "input": "1x4000x4000x4000"}, "positions, the studio takes at most"),
        ({"net": "conv 3x3 8", "input": "99999x5x5"}, "channels, the studio takes at most"),
        ({"net": "conv 3x3 8", "input": "3x2x2"}, "Use a larger input"),
        ({"net": "conv 3x3 8", "input": "5"}, "does not fit a 2-D network"),
        ({"net": "conv 3x3 8", "input": "٣x5x5"}, "is no size"),
        ({"net": "conv 3x3 8 dilation 1000"}, "the studio takes 128"),
        ({"net": "conv 3x3 99999"}, "99,999 channels"),
        ({"net": "90 * (conv 3x3 8 same)"}, "90 layers, the studio takes at most 40"),
        ({"net": "12 * (upsample 2)", "input": "1x1x1"}, "upsamples by 4,096"),
        ({"net": "conv 1x1x1x1 8"}, "4-D"),
        ({"net": "conv 3x3 1", "seed": "-1"}, "seed must be a whole number"),
        ({"net": "conv 3x3 1", "view": "<b>"}, "view"),
        ({"net": "conv 3x3 1", "edit": "[" * 1500}, "not one of the builder's"),
        ({"net": "conv 3x3 1", "edit": '{"op": "set", "fields": {"kind": "rm -rf"}}'}, "operator"),
        ({"net": "conv 3x3 1", "edit": '{"op": "remove"}'}, "at least one stage"),
    ],
)
def test_what_does_not_fit_is_a_sentence_and_quick(server, query, said):
    start = time.perf_counter()
    answer = view(server, **query)
    assert said.lower() in answer["problem"].lower()
    assert time.perf_counter() - start < 2


def test_a_mistake_shows_its_caret(server):
    lines = view(server, net="conv 3x3 8 stirde 2")["problem"].split("\n")
    assert lines[1:] == ["  conv 3x3 8 stirde 2", "             ^^^^^^"]


def test_edits_of_the_builder(server):
    def edited(net, **edit):
        return view(server, net=net, stage=str(edit.get("stage", 0)), edit=json.dumps(edit))

    fields = view(server, net="conv 3x5 8 stride 2x1 padding 0:1x2 relu nobias")["stages"][0]["fields"]
    same = edited("conv 3x5 8", op="set", stage=0, fields=fields)
    assert same["title"] == "conv 3x5 8 stride 2x1 padding 0:1x2:2 nobias relu"
    assert edited("conv 3x5 8", op="set", fields={**fields, "kind": "depthwise"})["title"].startswith("depthwise 3x5 ")
    assert edited("conv 3x3 8 | relu", op="add", stage=0)["title"] == "conv 3x3 8 | conv 3x3 8 same | relu"
    assert edited("conv 3x3 8 | relu", op="remove", stage=1)["title"] == "conv 3x3 8"
    assert edited("conv 3x5 8 same | relu", op="rank", rank=3)["title"] == "conv 3x3x3 8 same | relu"


# -- whose page may ask ----------------------------------------------------------------------------------------------


def test_only_this_machine_and_only_its_own_page(server):
    assert server.server_address[0] == "127.0.0.1"
    own = server.url.rstrip("/")
    assert asked(server, "/")[0] == 200
    assert asked(server, "/", Host=f"localhost:{server.port}")[0] == 200
    assert asked(server, "/api/view", Origin=own)[0] == 200
    for host in (
        "polyconv.example",
        f"polyconv.example:{server.port}",
        "127.0.0.1",
        "",
        f"127.0.0.1:{server.port}.example",
    ):
        assert asked(server, "/", Host=host)[0] == 403, host
    for origin in ("http://polyconv.example", "null", "https" + own[4:], own + ".example"):
        assert asked(server, "/api/view", Origin=origin)[0] == 403, origin
    assert asked(server, "/api/view", Sec_Fetch_Site="cross-site")[0] == 403
    assert asked(server, "/api/picture", "POST", b"")[0] == 403


def test_headers_and_unknown_routes(server):
    _, headers, _ = asked(server, "/")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert asked(server, "/etc/passwd")[0] == 404
    assert asked(server, "/../../pyproject.toml")[0] == 404
    assert asked(server, "/api/view", "PUT")[0] == 501
    assert asked(server, "/api/view?" + "x" * 9000)[0] == 414
    assert asked(server, "/api/view?" + "&".join(f"a{n}=1" for n in range(40)))[0] == 400


def test_no_file_asks_another_host(server):
    for path in ("/", "/studio.css", "/player.css", "/studio.js", "/player.js"):
        status, _, content = asked(server, path)
        assert status == 200
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "//" not in text.replace("\n//", "") or path != "/"


HOSTILE = '<img src=x onerror=alert(1)></script><script>alert("1")</script>'


def test_hostile_texts_are_never_markup(server, tmp_path):
    answer = view(server, net=f"conv 3x3 {HOSTILE}")
    assert "<img" in answer["problem"]  # JSON: the page puts it in as text
    status, headers, _ = asked(server, f"/api/view?{urlencode({'net': HOSTILE})}")
    assert headers["Content-Type"].startswith("application/json")
    status, headers, content = asked(server, f"/{urlencode({'x': HOSTILE})}")
    assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert b"<img" not in content
    assert b"<img src=x" not in asked(server, f"/?{urlencode({'net': HOSTILE})}")[2]


# -- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_is_convolved(server):
    status, answer = upload(server, png(40, 60), net="conv 3x3 1 stride 2 same", input="1x5x5")
    assert status == 200
    assert "1x40x60 in, 1x20x30 out" in answer["words"]
    assert answer["after"].startswith("data:image/png;base64,")
    assert "3x214x320 in" in upload(server, b"", net="conv 3x3 4 same", input="3x5x5")[1]["words"].replace(
        "x211x", "x214x"
    )


@pytest.mark.parametrize(
    ("content", "query", "said"),
    [
        (b"no picture at all", {}, "it is no picture"),
        (b"\x89PNG\r\n\x1a\n broken", {}, "picture"),
        (b"", {"net": "conv 3x3x3 1", "input": "1x5x5x5"}, "the network takes 3"),
        (b"", {"net": "conv 3x3 8 stirde"}, "stride"),
        (b"", {"net": "conv 11x11 4000 same", "input": "30x5x5"}, "MACs"),
        (b"", {"net": "conv 11x11 4000 same", "input": "2000x5x5"}, "too many for a picture"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(server, content, query, said):
    start = time.perf_counter()
    status, answer = upload(server, content, **query)
    assert status == 200
    assert said in answer["problem"]
    assert time.perf_counter() - start < 5


def test_a_picture_of_a_hundred_megapixels(server):
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    start = time.perf_counter()
    status, answer = upload(server, file.getvalue())
    assert status == 200
    assert "10000 x 10000 pixels are more than 40,000,000" in answer["problem"]
    assert time.perf_counter() - start < 2


def test_a_file_that_is_too_long_is_not_read(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/api/picture")
    connection.putheader("Origin", server.url.rstrip("/"))
    connection.putheader("Content-Length", str(MAX_BYTES + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "Make the picture smaller" in answer.read().decode()
    connection.close()


def test_hostile_sizes_are_answered_quickly(server):
    cases = [
        ("40 * (conv 3x3 16384 same)", "16384x4096x4096"),
        ("6 * (transposed 128x128 64 stride 2 padding 20)", "64x64x64"),
        ("3 * (conv 128x128 8 same dilation 127 stride 128)", "1x4096x4096"),
        ("concat(" + ", ".join(["maxpool 128x128 stride 1 same"] * 30) + ")", "1x4096x4096"),
    ]
    for net, size in cases:
        start = time.perf_counter()
        view(server, net=net, input=size)
        assert time.perf_counter() - start < 5, net


def test_a_second_change_is_answered_in_a_tenth_of_a_second(server):
    view(server, net="conv 3x3 4 padding 1", input="3x8x8")  # the first loads what is loaded once
    seconds = []
    for kernel in (1, 2, 3, 4, 5, 6, 7):
        start = time.process_time()
        view(server, net=f"conv {kernel}x3 4 padding 1", input="3x8x8")
        seconds.append(time.process_time() - start)
    assert sorted(seconds)[3] < 0.1, seconds


def test_large_windows_have_fewer_frames(server):
    small = view(server, net="conv 3x3 3 same", input="3x16x16")["drawing"]
    large = view(server, net="conv 7x7 3 same", input="3x16x16")["drawing"]
    assert small["count"] > 2 * large["count"] >= 50
