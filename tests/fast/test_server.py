"""A server of showers: the same showers for all, whoever asks, dies or talks nonsense."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_models

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions
from caloforge.errors import CheckpointError, ConditionError, SimulationError
from caloforge.fast import ShowerClient, ShowerServer
from caloforge.fast.maker import ShowerMaker
from caloforge.fast.orders import Order
from caloforge.generation.noise import draw_noise
from caloforge.models.base import ConditionTensors

N = 90
NUMBERS = np.arange(N) * 7 + (1 << 61)
CONDITIONS = Conditions(np.geomspace(1e3, 5e4, N), np.pi / 2, 0.0, "e-", "par04-siw")


def by_itself(maker: ShowerMaker, rows: slice) -> Any:
    """Showers as the model makes them alone, so many at once."""
    c, model = CONDITIONS[rows], maker.model
    with torch.inference_mode():
        noise = draw_noise(model.noise_shapes(), 3, NUMBERS[rows])
        made = model.decode(noise, ConditionTensors.of(c, model.detectors))
    return made.numpy().reshape(len(c), -1)


def toy(kind: type[toy_models.LayerGaussian] = toy_models.LayerGaussian) -> ShowerMaker:
    sample = toy_models.toy_showers(30)
    model = kind(toy_models.MESH)
    model.fit(sample)
    model.detectors = ("toy",)
    name = f"toy_models:{kind.__name__}"
    return ShowerMaker(Checkpoint.from_model(model, name, sample.conditions.ranges()), "cpu")


def toy_conditions(n: int) -> Conditions:
    return Conditions(np.full(n, 5e3), particle="e-", detector="toy")


@pytest.mark.parametrize("merge", [False, True])
def test_showers_are_those_of_the_model(siw: ShowerMaker, place: Path, merge: bool) -> None:
    reference = np.concatenate([by_itself(siw, slice(0, 64)), by_itself(siw, slice(64, N))])
    parts = [slice(i, i + 5) for i in range(0, N, 5)]
    made: dict[int, Any] = {}
    with ShowerServer(siw, place, threads=2, merge=merge) as server:
        with ShowerClient(place) as client:
            assert client.offer == server.offer
            np.testing.assert_array_equal(client.make(3, NUMBERS, CONDITIONS), reference)
            assert (client.make(4, NUMBERS[-1:], CONDITIONS[-1:]) != reference[-1]).any()

        def ask(k: int) -> None:
            with ShowerClient(place) as client:
                for i in range(k, len(parts), 3):
                    made[i] = client.make(3, NUMBERS[parts[i]], CONDITIONS[parts[i]])

        threads = [threading.Thread(target=ask, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.tally.showers == 2 * N + 1
    for i, rows in enumerate(parts):
        if not merge:
            np.testing.assert_array_equal(made[i], by_itself(siw, rows))
        np.testing.assert_allclose(made[i].sum(1), reference[rows].sum(1), rtol=1e-4)
    assert not place.exists()


def raw(place: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(30)
    end.connect(str(place))
    with end.makefile("rb") as lines:
        assert json.loads(lines.readline())["caloforge"] == 1
    return end


GOOD: dict[str, Any] = {"seed": 1, "n": 1, "detector": "toy", "impact": False}


def order(**changed: Any) -> bytes:
    told, content = Order(1, np.zeros(1, dtype=np.int64), toy_conditions(1)).message()
    assert told == GOOD
    content = changed.pop("content", content)
    return json.dumps(told | {"bytes": len(content)} | changed).encode() + b"\n" + content


def columns(number: int = 0, particle: int = 11, energy: float = 1e3, theta: float = 1.5) -> bytes:
    return np.array([number, particle]).tobytes() + np.array([energy, theta, 0.0]).tobytes()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "is no JSON"),
        (b"\x80\x04\x95N.\n", "is no JSON"),
        (b"x" * 100_000, "a line of more than"),
        (order(n=0), "1 to 1024 showers, not 0"),
        (order(n=10**12), "not 1000000000000"),
        (order(n=True), "not True"),
        (order(n=2), "80 bytes belong to 2 showers, not 40"),
        (order(bytes=10**15), "comes with 0 to"),
        (order(impact=True), "56 bytes belong to 1 showers"),
        (order(detector=7), "says its detector"),
    ],
)
def test_nonsense_ends_the_connection_only(sent: bytes, why: str, place: Path) -> None:
    with ShowerServer(toy(), place), ShowerClient(place) as client:
        with raw(place) as end:
            end.sendall(sent)
            with end.makefile("rb") as lines:
                assert why in json.loads(lines.read().splitlines()[-1])["error"]
        assert client.make(1, np.arange(3), toy_conditions(3)).shape == (3, 72)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (order(detector="elsewhere"), "showers in toy, not in 'elsewhere'"),
        (order(seed=-1), "a seed must be"),
        (order(seed=None), "a seed must be"),
        (order(content=columns(energy=float("nan"))), "energy of shower 0 is nan"),
        (order(content=columns(energy=-1.0)), "must be positive"),
        (order(content=columns(theta=9.0)), "theta of shower 0"),
        (order(content=columns(number=-1)), "numbers of showers"),
        (order(content=columns(particle=1 << 40)), "no particles of such codes"),
        (order(content=columns(particle=-(1 << 63))), "no particles of such codes"),
    ],
)
def test_what_there_cannot_be_is_refused_and_the_connection_goes_on(
    sent: bytes, why: str, place: Path
) -> None:
    with ShowerServer(toy(), place), raw(place) as end, end.makefile("rb") as lines:
        end.sendall(sent)
        assert why in json.loads(lines.readline())["error"]
        end.sendall(order())
        assert json.loads(lines.readline()) == {"n": 1, "bytes": 4 * 72}


def test_a_client_that_dies_harms_nobody(place: Path) -> None:
    with ShowerServer(toy(), place) as server, ShowerClient(place) as client:
        told, content = Order(1, np.arange(1000), toy_conditions(1000)).message()
        whole = json.dumps(told | {"bytes": len(content)}).encode() + b"\n" + content
        for sent in (whole, whole[:5000], whole[:20], b""):
            for _ in range(3):
                with raw(place) as end:
                    end.sendall(sent)
        assert client.make(1, np.arange(1000), toy_conditions(1000)).shape == (1000, 72)
        deadline = time.monotonic() + 30
        while (len(server._clients), server._room) != (1, 256 << 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(server._clients) == 1
        assert server._room == 256 << 20


class Slow(toy_models.LayerGaussian):
    begun, go = threading.Event(), threading.Event()

    def decode(self, *given: Any) -> Any:
        Slow.begun.set()
        assert Slow.go.wait(60)
        return super().decode(*given)


class Illegal(toy_models.LayerGaussian):
    def decode(self, noise: Any, conditions: Any) -> Any:
        return torch.where(conditions.energy > 1e4, torch.nan, 1.0)[:, None, None, None] * super().decode(
            noise, conditions
        )


@pytest.fixture
def _others(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Slow, Illegal):
        monkeypatch.setattr(toy_models, kind.__name__, kind, raising=False)
        kind.__module__ = "toy_models"


@pytest.mark.usefixtures("_others")
def test_orders_wait_until_there_is_memory_for_them(place: Path) -> None:
    maker, made = toy(Slow), []

    def ask() -> None:
        with ShowerClient(place) as client:
            made.append(client.make(1, np.arange(900), toy_conditions(900)))

    Slow.begun.clear()
    Slow.go.clear()
    with ShowerServer(maker, place, memory_mib=1) as server:
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert Slow.begun.wait(30)
        time.sleep(0.2)
        with server._changed:
            assert len(server._jobs) <= 1  # one of the three fits into a MiB at a time
            assert 0 <= server._room < 900 * server._shower_bytes
        Slow.go.set()
        for thread in threads:
            thread.join()
    assert len(made) == 3
    assert all(np.array_equal(made[0], other) for other in made)


@pytest.mark.usefixtures("_others")
def test_the_end_is_told_to_those_who_wait(place: Path) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            with ShowerClient(place) as client:
                client.make(1, np.arange(200), toy_conditions(200))
        except SimulationError as error:
            said.append(str(error))

    maker = toy(Slow)
    Slow.begun.clear()
    Slow.go.clear()
    threads = [threading.Thread(target=ask) for _ in range(2)]
    with ShowerServer(maker, place):
        for thread in threads:
            thread.start()
        assert Slow.begun.wait(30)
        threading.Timer(0.2, Slow.go.set).start()
    for thread in threads:
        thread.join()
    assert len(said) == 2
    assert all("the server was stopped" in text or "has ended" in text for text in said)


@pytest.mark.usefixtures("_others")
def test_illegal_showers_are_an_error_of_their_order_alone(place: Path) -> None:
    with ShowerServer(toy(Illegal), place), ShowerClient(place) as client:
        bad = Conditions([5e3, 2e4, 5e3], particle="e-", detector="toy")
        with pytest.raises(SimulationError, match=r"for shower 8 \(20000 MeV"):
            client.make(1, np.array([7, 8, 9]), bad)
        assert client.make(1, np.arange(2), toy_conditions(2)).min() >= 0


def test_names_that_cannot_be_sockets(place: Path) -> None:
    maker = toy()
    place.write_text("mine")
    with pytest.raises(SimulationError, match="cannot make a socket"), ShowerServer(maker, place):
        pass
    assert place.read_text() == "mine"
    place.unlink()
    with pytest.raises(SimulationError, match="107 bytes at most"), ShowerServer(maker, Path("n" * 200)):
        pass
    with (
        ShowerServer(maker, place),
        pytest.raises(SimulationError, match="at s: there is a server already"),
        ShowerServer(maker, place),
    ):
        pass
    assert not place.exists()
    with socket.socket(socket.AF_UNIX) as left:  # by a server that was killed
        left.bind(str(place))
    with ShowerServer(maker, place), ShowerClient(place):
        pass
    with pytest.raises(SimulationError, match=r"no server of showers at s .*start one with"):
        ShowerClient(place)


def test_what_cannot_be_served(place: Path, siw: ShowerMaker) -> None:
    with pytest.raises(SimulationError, match="not enough for one shower"):
        ShowerServer(siw, place, memory_mib=0)
    nameless = toy().checkpoint
    nameless.detectors = ()
    with pytest.raises(CheckpointError, match="does not say in which detector"):
        ShowerMaker(nameless)
    with ShowerServer(toy(), place), ShowerClient(place) as client, pytest.raises(ConditionError):
        client.make(1, np.arange(2), CONDITIONS[:2])


def test_the_command(tmp_path: Path, place: Path) -> None:
    toy().checkpoint.save(tmp_path / "model")
    command = [sys.executable, "-m", "caloforge", "serve", "model", "--socket", str(place), "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        assert "makes showers at s; Ctrl-C ends it" in process.stdout.readline()
        assert place.stat().st_mode & 0o777 == 0o600
        with ShowerClient(place) as client:
            assert client.offer.name == "model"
            client.make(1, np.arange(20), toy_conditions(20))
            process.send_signal(signal.SIGTERM)
            told = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "ended: 20 showers for 1 orders, 20.0 in each of 1 blocks" in told
    assert not place.exists()
