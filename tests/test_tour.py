"""The tour: every kind is there, each does what its text says, and the page stands alone."""

from __future__ import annotations

from html.parser import HTMLParser
from time import perf_counter

import numpy as np
import pytest

from oracle import conv as conv_by_loops
from polyconv._units import shown_shape
from polyconv.images import photograph
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Pool, Separable, Spatial
from polyconv.network import Branches, Join
from polyconv.tour import kernels as k
from polyconv.tour import prepared, visit, visits
from polyconv.tour.animation import FRAMES, SMALL, drawing
from polyconv.tour.page import page
from polyconv.tour.stops import LEAST, STOPS

BY_TITLE = {stop.title: stop for stop in STOPS}


@pytest.fixture(scope="module")
def small():
    return prepared(photograph())[100:164, 80:160]


@pytest.fixture(scope="module")
def done(small):
    return list(visits(small))


def test_the_whole_tour_takes_less_than_twenty_seconds():
    start = perf_counter()
    list(visits(prepared(photograph())))
    assert perf_counter() - start < 20


def test_every_kind_of_layer_and_every_rank_is_visited():
    stages = [stage for stop in STOPS for stage in stop.network.stages]
    kinds = {type(stage) for stage in stages}
    assert kinds >= {Conv, ConvTranspose, Pool, Separable, Spatial, Branches}
    assert GlobalPool not in kinds  # a picture of one pixel shows nothing
    assert {stop.network.ndim for stop in STOPS} >= {1, 2, 3}
    convs = [stage for stage in stages if isinstance(stage, Conv)]
    assert any(stage.depthwise and stage.multiplier == 1 for stage in convs)
    assert any(stage.multiplier == 2 for stage in convs)
    assert any(stage.groups == 2 for stage in convs)
    assert any(stage.padding == "causal" for stage in convs)
    assert {pool.kind for pool in stages if isinstance(pool, Pool)} == {"max", "avg"}


def test_every_stop_runs_with_its_own_weights_and_shows_a_picture(done, small):
    assert len(done) == len(STOPS) >= 20
    for visited in done:
        assert visited.picture.ndim == 2 or visited.picture.shape[2] == 3
        assert visited.picture.std() > 0.01, f"{visited.stop.title} shows nothing"
        assert np.isfinite(visited.picture).all()
        assert visited.seconds > 0


def test_a_wrong_shape_would_be_noticed(small):
    import dataclasses

    class Lying(type(STOPS[0])):
        @property
        def network(self):
            real = super().network

            class Net:
                def __getattr__(self, name):
                    return getattr(real, name)

                def bind(self, weights):
                    return lambda x: real.bind(weights)(x)[:, :, 1:]

            return Net()

    lying = Lying(**{field.name: getattr(STOPS[0], field.name) for field in dataclasses.fields(STOPS[0])})
    with pytest.raises(RuntimeError, match="its geometry says"):
        visit(lying, small)


def output(title: str, picture: np.ndarray) -> np.ndarray:
    return BY_TITLE[title].output(picture.astype(np.float32))


def test_the_separable_blur_is_the_full_one(small):
    bell = k.square(k.gaussian(15, 3.0))
    padded = np.pad(np.moveaxis(small, -1, 0).astype(float), ((0, 0), (7, 7), (7, 7)), mode="edge")
    window = padded[:, 20:35, 30:45]
    found = output("Spatially separable", small)[0, :, 20, 30]
    np.testing.assert_allclose(found, (window * bell).sum(axis=(1, 2)), rtol=1e-4)


def test_depthwise_moves_red_left_and_blue_right(small):
    found = output("Depthwise", small)[0]
    np.testing.assert_allclose(found[0, :, :-8], small[:, 8:, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], small[:, :, 1], atol=1e-6)
    np.testing.assert_allclose(found[2, :, 8:], small[:, :-8, 2], atol=1e-6)


def test_the_tents_of_the_transposed_layer_sum_to_one():
    flat = np.full((64, 64, 3), 0.5)
    found = output("Transposed", flat)[0]
    np.testing.assert_allclose(found[:, 12:-12, 12:-12], 0.5, atol=1e-6)


def test_the_causal_trail_never_sees_the_future(small):
    changed = small.copy()
    changed[:, 40:] = 0
    before, after = output("1-D, causal", small), output("1-D, causal", changed)
    np.testing.assert_array_equal(before[:, :, :40], after[:, :, :40])
    assert not np.allclose(before[:, :, 40], after[:, :, 40])


def test_the_groups_never_mix(small):
    picture = small.copy()
    first = BY_TITLE["Grouped"]
    x = first.read(picture)
    model = first.network.bind(first.arrays(6, 2))
    y = model(x)
    x[:, 3:] = 0
    np.testing.assert_array_equal(model(x)[:, :3], y[:, :3])
    assert not np.allclose(model(x)[:, 3:], y[:, 3:])


def test_the_waves_of_the_encoder_are_orthonormal_so_that_flat_pictures_come_back():
    waves = k.cosines(8, 64).reshape(64, 64)
    np.testing.assert_allclose(waves @ waves.T, np.eye(64), atol=1e-12)
    flat = np.full((64, 72, 3), (0.2, 0.5, 0.7))
    np.testing.assert_allclose(np.moveaxis(output("Encoder and decoder", flat)[0], 0, -1), flat, atol=1e-5)


def test_edges_are_what_the_loops_say(small):
    grey = (small[:10, :11] @ k.LUMA)[None, None]
    expected = conv_by_loops(np.pad(grey, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"), k.EDGE_RIGHT[None, None]).y
    np.testing.assert_allclose(output("Standard, one channel", small[:10, :11]), expected, atol=1e-6)


def test_blurs_keep_the_brightness():
    for taps in (k.gaussian(15, 3.0), k.trail(48, 0.93), k.BINOMIAL):
        assert taps.sum() == pytest.approx(1)
    assert k.sharpen(5, 1.2, 1.5).sum() == pytest.approx(1)
    for edges in (k.EDGE_RIGHT, k.EDGE_DOWN, k.SPOT, *k.oriented(7, 1.6, 8), k.spots(5, 1.0)):
        assert abs(edges.sum()) < 0.15
    np.testing.assert_allclose(k.saturation(1.6) @ np.ones(3), 1)


def test_a_small_picture_is_refused():
    with pytest.raises(ValueError, match=f"63 x 64 pixels, the tour needs at least {LEAST}"):
        prepared(np.zeros((64, 63, 3), np.float32))


class Reader(HTMLParser):
    """Collects what matters of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&.jpg"


@pytest.fixture(scope="module")
def text(done, small):
    return page(done, small, HOSTILE)


@pytest.fixture(scope="module")
def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_asks_nobody_for_anything(read):
    for tag, attrs in read.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
        assert not any(name.startswith("on") for name in attrs)
    assert {"script", "link", "iframe", "object", "base"}.isdisjoint(tag for tag, _ in read.tags)
    assert "@import" not in read.text
    fetched = [data for data in read.text.split("url(")[1:] if not data.startswith("data:image/jpeg;base64,")]
    assert fetched == []


def test_a_hostile_name_is_text(read):
    assert read.text.count(HOSTILE) == 1  # as the caption; in the command line it is quoted for a shell
    assert "alert(2)" in read.text


def test_pictures_have_words_and_links_have_targets(read, done):
    assert all("alt" in attrs for attrs in read.all("img"))
    pictures = [attrs for attrs in read.all("img") if "picture" in (attrs.get("class") or "")]
    assert len(pictures) == len(done)
    assert all(visited.stop.title in attrs["alt"] for visited, attrs in zip(done, pictures, strict=True))
    targets = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(targets) == len(set(targets))
    assert {attrs["href"][1:] for attrs in read.all("a")} <= set(targets)
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == 1
    assert len(read.all("h3")) == len(done)


def test_what_goes_in_is_shown_where_it_is_not_the_photograph(read, done, small):
    inputs = [attrs["alt"] for attrs in read.all("img") if "input" in (attrs.get("class") or "").split()]
    assert inputs == [f"What goes in: {visited.stop.title}" for visited in done if visited.before is not None]
    by_title = {visited.stop.title: visited for visited in done}
    assert by_title["Transposed"].before.shape == (*by_title["Strided"].report.out_shape[2:], 3)
    np.testing.assert_array_equal(by_title["Transposed"].before, np.moveaxis(output("Strided", small)[0], 0, -1))
    assert by_title["Grouped"].before.shape[2] == 3
    np.testing.assert_array_equal(by_title["Grouped"].before[:, : small.shape[1]], small)
    for visited in done:
        assert visited.before is not None or visited.report.in_shape[1] == 3
        assert f"before: {shown_shape(visited.report.in_shape)}" in read.text


def test_the_numbers_on_the_page_are_the_counts(read, done):
    for visited in done:
        for number in (visited.report.params, visited.report.macs, visited.report.macs_on_data):
            assert f"{number:,}" in read.text
        assert visited.stop.notation in read.text


def test_the_same_tour_gives_the_same_pictures(small, done):
    for visited in done:
        np.testing.assert_array_equal(visited.picture, visited.stop.show(visited.stop.output(small)))


def test_every_kind_is_shown_at_work_and_in_code(read, text, done):
    films = [attrs for attrs in read.all("img") if attrs["src"].startswith("data:image/gif")]
    assert len(films) == len(done) == len(SMALL)
    assert len(read.all("source")) == len(done)  # one frame for those who want no motion
    assert read.text.count("import polyconv as pc") == len(done)
    assert read.text.count("from torch import nn") == len(done)
    assert len(text) < 6_000_000


@pytest.mark.parametrize("title", SMALL)
def test_the_animation_is_of_the_stops_own_kind(title):
    shown = drawing(title).composer.scene
    assert 1 < len(shown.frames) <= 2 * FRAMES
    kinds = {type(node.layer) for node in BY_TITLE[title].network.nodes}
    assert {type(step.layer) for step in shown.steps} <= kinds | {Join}
