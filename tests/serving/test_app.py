"""The server answers, refuses in a sentence, reloads, and stops without losing any."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from ddrm_pyg.serving.app import Limits, Service, _bound, create_app, run

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def service(exported):
    return Service(exported.folder, Limits(history=6, batch=3, bytes=2000))


@pytest.fixture
def client(service):
    return TestClient(create_app(service))


def test_a_list(exported, service, client):
    history = exported.ids[:3]
    answer = client.post("/recommend", json={"history": history, "k": 4})
    assert answer.status_code == 200
    (expected,) = service.engine.recommend([history], k=4, exclude=[[]])
    assert answer.json() == {
        "item": expected.item,
        "score": pytest.approx(expected.score),
        "num_unknown": 0,
    }
    exclude = expected.item[:2]
    again = client.post(
        "/recommend", json={"history": history, "k": 2, "exclude": exclude}
    ).json()
    assert again["item"] == expected.item[2:]


def test_ten_items_are_the_default_and_nothing_known_is_a_list(client):
    answer = client.post("/recommend", json={"history": ["unheard of", 3]}).json()
    assert len(answer["item"]) == 10
    assert answer["num_unknown"] == 2


def test_a_batch_is_its_lists(exported, client):
    histories = [exported.ids[:2], [], exported.ids[7:9]]
    batch = client.post("/recommend/batch", json={"histories": histories, "k": 3})
    lists = batch.json()["lists"]
    for history, listed in zip(histories, lists, strict=True):
        alone = client.post("/recommend", json={"history": history, "k": 3}).json()
        assert listed["item"] == alone["item"]
    assert client.post("/recommend/batch", json={"histories": []}).json() == {
        "lists": []
    }


def test_similar_items(exported, service, client):
    answer = client.post("/similar", json={"item": exported.ids[4], "k": 2})
    assert answer.json()["item"] == service.engine.similar(exported.ids[4], k=2).item
    missing = client.post("/similar", json={"item": "unheard of"})
    assert missing.status_code == 404
    assert missing.json() == {"detail": "'item' must be known (got 'unheard of')"}


def test_health_metrics_and_documentation(exported, client):
    assert client.get("/health").json() == {
        "status": "ok",
        "export": "first",
        "num_items": 500,
        "max_k": 20,
        "ordered": False,
    }
    client.post("/recommend", json={"history": ["unheard of"]})
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'ddrm_requests_total{path="/recommend",status="200"} 1' in text
    assert 'ddrm_requests_total{path="other",status="404"} 1' in text
    assert "ddrm_unknown_ids_total 1\n" in text
    assert client.get("/docs").status_code == 200
    assert "/recommend/batch" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/recommend", "{", 422),
        ("/recommend", "[]", 422),
        ("/recommend", "", 422),
        ("/recommend", "{}", 422),
        ("/recommend", '{"history": "abc"}', 422),
        ("/recommend", '{"history": [1.5]}', 422),
        ("/recommend", '{"history": [true]}', 422),
        ("/recommend", '{"history": [null]}', 422),
        ("/recommend", '{"history": [], "k": 0}', 422),
        ("/recommend", '{"history": [], "k": 21}', 422),
        ("/recommend", '{"history": [], "k": "many"}', 422),
        ("/recommend", '{"history": [], "other": 1}', 422),
        ("/recommend", b"\xff\xfe", 422),
        ("/recommend", '{"history": [], "k": NaN}', 422),
        ("/recommend", '{"history": [Infinity]}', 422),
        ("/recommend", '{"history": [], "k": 1e999}', 422),
        ("/recommend", "[" * 1900, 400),
        ("/recommend", '{"history": [' + "9" * 1900 + "]}", 200),
        ("/recommend", r'{"history": ["\ud800"]}', 200),
        ("/similar", r'{"item": "\ud800"}', 404),
        ("/recommend", json.dumps({"history": list(range(7))}), 413),
        ("/recommend", json.dumps({"history": [], "exclude": list(range(7))}), 413),
        ("/recommend/batch", json.dumps({"histories": [[]] * 4}), 413),
        ("/recommend/batch", json.dumps({"histories": [[1] * 7]}), 413),
        ("/recommend", json.dumps({"history": ["x" * 3000]}), 413),
        ("/similar", '{"item": 1, "k": 21}', 422),
        ("/similar", '{"item": [1]}', 422),
        ("/nowhere", "{}", 404),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(client, path, body, status):
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status
    assert status == 200 or answer.json().keys() == {"detail"}
    assert "Traceback" not in answer.text
    assert client.get("/health").status_code == 200


def test_a_refusal_says_where(client):
    answer = client.post("/recommend", json={"history": [1, 2.5]})
    assert answer.json()["detail"].startswith("'history.1")
    answer = client.post("/recommend", json={})
    assert answer.json() == {"detail": "'history': Field required"}


def test_a_long_body_of_unknown_length_is_refused(client):
    answer = client.post("/recommend", content=(b" " * 500 for _ in range(10)))
    assert answer.status_code == 413


def test_a_failure_is_short_and_the_server_goes_on(service, client, monkeypatch):
    monkeypatch.setattr(service.engine, "recommend", None)
    answer = client.post("/recommend", json={"history": []})
    assert (answer.status_code, answer.json()) == (500, {"detail": "internal error"})
    assert client.get("/health").status_code == 200
    assert 'path="/recommend",status="500"} 1' in client.get("/metrics").text


def test_reloading_serves_what_a_link_names_now(exported, tmp_path, caplog):
    link = tmp_path / "current"
    link.symlink_to(exported.folder)
    service = Service(link)
    before = service.engine
    link.unlink()
    service.reload()  # nothing there: goes on
    assert service.engine is before
    assert "not reloaded" in caplog.text
    link.symlink_to(exported.folder)
    with caplog.at_level(logging.INFO, "ddrm_pyg"):
        service.reload()
    assert service.engine is not before
    assert service.counts.reloads == 1


def test_what_stops_is_not_healthy(service, client):
    service.stopping = True
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["detail"]) == (503, "stopping")
    assert client.post("/recommend", json={"history": []}).status_code == 200


def test_a_port_in_use_is_refused(service):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"must be free \(got 127.0.0.1:{port}"):
            run(service, "127.0.0.1", port, drain=0)


def test_answers_are_sent_at_once():
    """asyncio switches Nagle's delay off only where the protocol is named."""
    with _bound("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


class Server:
    """A server in a process of its own, on a free port of this machine."""

    def __init__(self, folder):
        words = [sys.executable, "-m", "ddrm_pyg", "serve", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*words, "--drain", "4"], stderr=subprocess.PIPE, text=True
        )
        line = self.process.stderr.readline()
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
        while not self.is_ready():
            time.sleep(0.05)

    def ask(self, path="/recommend", body='{"history": []}'):
        """Status of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST" if body else "GET", path, body, JSON)
            return connection.getresponse().status
        finally:
            connection.close()

    def is_ready(self):
        """What a balancer asks before it sends requests."""
        try:
            return self.ask("/health", None) == 200
        except OSError:
            return False

    def load(self, more):
        """Statuses of the requests of four people, while there are to be more."""

        def person(_):
            statuses = []
            while more():
                statuses.append(self.ask())
            return statuses

        with ThreadPoolExecutor(4) as people:
            return [one for part in people.map(person, range(4)) for one in part]


@pytest.fixture
def server(exported, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(exported.folder)
    server = Server(link)
    yield server
    server.process.kill()
    server.process.wait()
    server.process.stderr.close()


def test_a_signal_stops_it_without_losing_a_request(server):
    timer = threading.Timer(1.0, server.process.send_signal, [signal.SIGTERM])
    timer.start()
    statuses = server.load(server.is_ready)
    assert set(statuses) == {200}
    assert len(statuses) > 10
    assert server.process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.process.stderr.read()


def test_after_a_kill_under_load_another_server_answers(server, exported):
    timer = threading.Timer(0.5, server.process.kill)
    timer.start()
    with pytest.raises((ConnectionError, HTTPException)):
        server.load(lambda: True)
    assert server.process.wait(timeout=30) == -signal.SIGKILL
    other = Server(exported.folder)
    try:
        assert other.ask() == 200
    finally:
        other.process.kill()
        other.process.communicate()


def test_told_twice_it_stops_at_once(server):
    server.process.send_signal(signal.SIGINT)
    while server.is_ready():
        time.sleep(0.01)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=30) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in server.process.stderr.read()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_signal_reloads_it_without_losing_a_request(server):
    done = threading.Event()

    def reload():
        server.process.send_signal(signal.SIGHUP)
        assert "serving" in server.process.stderr.readline()
        done.set()

    timer = threading.Timer(0.5, reload)
    timer.start()
    statuses = server.load(lambda: not done.is_set())
    assert set(statuses) == {200}
    assert server.process.poll() is None
    timer.join()
