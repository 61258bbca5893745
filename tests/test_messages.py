"""messages: what is sent when a run is over, to a real SMTP server and a real HTTP receiver."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import luigi
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from luigi.configuration import LuigiConfigParser
from pictures import gif
from server import Fault, Server, hold, redirect, silent, status
from waiting import until
from workflow import CONFIG, command, started, stream

from imagetl_luigi import CombineGif, messages
from imagetl_luigi.logs import logger
from imagetl_luigi.report import FAILED, MADE, MISSING, Animation, Error, Report

FRAMES = [gif(seed=seed) for seed in range(3)]
SECRET = "T0KEN"


class Mailbox:
    """A real SMTP server on a port of 127.0.0.1, and the mails that it was given."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(autouse=True)
def configuration(monkeypatch: pytest.MonkeyPatch) -> LuigiConfigParser:
    """Settings of their own for each test."""
    config = LuigiConfigParser()
    config.read_dict({"download": {"retries": "0"}, "scheduler": {"batch_emails": "true"}})
    config.read_dict({"worker": {"send_failure_email": "false"}})
    monkeypatch.setattr(LuigiConfigParser, "_instance", config)
    return config


def mail_to(mailbox: Mailbox, config: LuigiConfigParser, **email: str) -> None:
    config.read_dict({"email": {"receiver": "me@example.org, you@example.org", "sender": "cam@example.org", **email}})
    config.read_dict({"smtp": {"host": "127.0.0.1", "port": str(mailbox.port), "timeout": "5"}})


def post_to(url: str, config: LuigiConfigParser, **options: str) -> None:
    config.read_dict({"messages": {"webhook": url, **options}})


def run(url: str, workspace: Path) -> bool:
    task = CombineGif(url=url, workspace=str(workspace))
    luigi.build([task], local_scheduler=True)
    return bool(task.complete())


def body(mail: EmailMessage) -> str:
    part = mail.get_body(("plain", "html"))
    assert part
    return str(part.get_content())


def posted(server: Server) -> list[dict[str, Any]]:
    """What came to the receiver, which answers under the path /hook."""
    return [json.loads(request.body) for request in server.requests if request.path == f"/hook/{SECRET}"]


def hook(server: Server) -> str:
    return server.put(f"/hook/{SECRET}", b"ok")


def test_a_mail_says_how_a_run_ended(
    server: Server, tmp_path: Path, mailbox: Mailbox, configuration: LuigiConfigParser
) -> None:
    mail_to(mailbox, configuration, prefix="[cams]")
    assert run(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    ((receivers, mail),) = mailbox.mails
    assert receivers == ["me@example.org", "you@example.org"]
    assert mail["From"] == "cam@example.org"
    assert mail["Subject"] == "[cams] imagetl_luigi: done: cam, 3 frames"
    assert re.fullmatch(
        rf"imagetl_luigi: done: cam, 3 frames\n\d\.\d s on {re.escape(socket.gethostname())}\n"
        rf"made: {tmp_path}/cam/clip.gif, 3 frames\n?",
        body(mail),
    )


def test_a_mail_says_why_a_run_failed(
    server: Server, tmp_path: Path, mailbox: Mailbox, configuration: LuigiConfigParser
) -> None:
    mail_to(mailbox, configuration)
    assert not run(server.url("/none"), tmp_path / "cam")
    ((_, mail),) = mailbox.mails
    assert mail["Subject"] == "imagetl_luigi: failed: cam"
    assert f"Download: DownloadError: {server.url('/none')} answered 404 Not Found; check the URL" in body(mail)


def test_a_hostile_name_stays_in_its_line(
    server: Server,
    tmp_path: Path,
    mailbox: Mailbox,
    configuration: LuigiConfigParser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logger, "disabled", True)  # pytest-xdist cannot carry a log with half a character in it
    mail_to(mailbox, configuration, format="html")
    assert run(server.put("/a", stream(FRAMES)), tmp_path / "cam\r\nBcc: all@example.org\r\n\r\n<b>ø\udcff")
    ((receivers, mail),) = mailbox.mails
    assert len(receivers) == 2
    assert mail["Bcc"] is None
    assert mail["Subject"] == "imagetl_luigi: done: cam Bcc: all@example.org <b>ø�, 3 frames"
    assert body(mail).startswith("<pre>imagetl_luigi: done: cam Bcc: all@example.org &lt;b&gt;ø�, 3 frames\n")


@contextlib.contextmanager
def answering(answer: bytes, pause: float = 0) -> Iterator[int]:
    """The port of a server that says these bytes to whoever comes, and then nothing more."""
    ending = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                for byte in answer:
                    self.request.sendall(bytes([byte]))
                    if ending.wait(pause):
                        return
            ending.wait(0 if answer and not pause else None)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = False
        serving = threading.Thread(target=listening.serve_forever, args=(0.005,))
        serving.start()
        yield listening.server_address[1]
        ending.set()
        listening.shutdown()
        serving.join()


@pytest.mark.parametrize("answer", [None, b"", b"554 go away\r\n", b"\xff\xff\r\n"])
def test_a_mail_server_that_does_not_work_fails_no_run(
    answer: bytes | None,
    server: Server,
    tmp_path: Path,
    configuration: LuigiConfigParser,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.nullcontext(9) if answer is None else answering(answer) as port:
        configuration.read_dict({"email": {"receiver": "me@example.org"}, "smtp": {"timeout": "0.3"}})
        configuration.read_dict({"smtp": {"host": "127.0.0.1", "port": str(port), "timeout": "0.3"}})
        assert run(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_a_mail_server_that_drips_holds_no_run_up(
    server: Server,
    tmp_path: Path,
    configuration: LuigiConfigParser,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "MAIL_PATIENCE", 0.3)
    with answering(b"2" * 1000, pause=0.05) as port:
        configuration.read_dict({"email": {"receiver": "me@example.org"}})
        configuration.read_dict({"smtp": {"host": "127.0.0.1", "port": str(port), "timeout": "0.3"}})
        assert run(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    assert "the mail to me@example.org was not sent: its server did not take it within 0.3 s" in caplog.text


def test_a_post_says_how_a_run_ended(server: Server, tmp_path: Path, configuration: LuigiConfigParser) -> None:
    post_to(hook(server), configuration)
    url = server.put("/a", stream(FRAMES))
    assert run(url, tmp_path / "cam")
    assert run(url, tmp_path / "cam")
    first, second = posted(server)
    assert isinstance(first.pop("seconds"), float)
    assert first.pop("text").startswith("imagetl_luigi: done: cam, 3 frames\n")
    animation = {
        "name": "cam",
        "gif": f"{tmp_path}/cam/clip.gif",
        "state": "made",
        "page": "",
        "frames": 3,
        "error": "",
    }
    assert first == {"state": "done", "frames": 3, "animations": [animation], "errors": [], "more_errors": 0}
    assert second["state"] == "nothing to do"
    assert server.requests[1].headers["Content-Type"] == "application/json"


def test_of_many_streams_one_message_and_one_warning_say_which_failed(
    server: Server, tmp_path: Path, configuration: LuigiConfigParser, caplog: pytest.LogCaptureFixture
) -> None:
    post_to(hook(server), configuration)
    urls = {"a": server.put("/a", stream(FRAMES)), "pier": server.url("/none")}
    tasks = [CombineGif(url=url, workspace=str(tmp_path / name)) for name, url in urls.items()]
    luigi.build(tasks, local_scheduler=True)
    (message,) = posted(server)
    why = f"DownloadError: {urls['pier']} answered 404 Not Found; check the URL"
    assert [(one["name"], one["state"]) for one in message["animations"]] == [("a", "made"), ("pier", "not made")]
    assert message["animations"][1]["error"] == message["errors"][0]["message"] == why
    assert caplog.messages.count(f"1 of 2 animations failed: pier: {why}") == 1


@pytest.mark.parametrize(("when", "well", "badly"), [("always", 1, 1), ("failure", 0, 1)])
def test_they_can_be_for_failures_only(
    when: str,
    well: int,
    badly: int,
    server: Server,
    tmp_path: Path,
    mailbox: Mailbox,
    configuration: LuigiConfigParser,
) -> None:
    post_to(hook(server), configuration, when=when)
    mail_to(mailbox, configuration)
    run(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    assert (len(posted(server)), len(mailbox.mails)) == (well, well)
    run(server.url("/none"), tmp_path / "pier")
    assert (len(posted(server)), len(mailbox.mails)) == (well + badly, well + badly)


def test_a_text_cannot_command_a_chat() -> None:
    animation = Animation(name="<!channel>", gif="/a&b", manifest="/m", state=MADE)
    error = Error(kind="Download", task="Download(url=<a>)", message="E: <@U1> & more")
    made = Report(state=FAILED, tasks=(), seconds=1, animations=(animation,), errors=(error,), more_errors=0)
    content = messages.content(made)
    assert "<" not in content["text"]
    assert "failed: &lt;!channel&gt;\n" in content["text"]
    assert "E: &lt;@U1&gt; &amp; more" in content["text"]
    assert content["animations"] == [
        {"name": "<!channel>", "gif": "/a&b", "state": "made", "page": "", "frames": None, "error": ""}
    ]
    assert content["errors"] == [{"task": "Download(url=<a>)", "message": "E: <@U1> & more"}]


FAULTS: dict[str, tuple[Fault, str]] = {
    "server error": (status(500), "it answered 500"),
    "gone": (status(404), "it answered 404"),
    "redirect": (
        redirect(f"http://127.0.0.1:9/{SECRET}"),
        "it answered 302, a redirect; give the URL that it leads to",
    ),
    "silent": (silent, "it did not answer within [messages] timeout = 0.3 s"),
}
ANSWERS = {
    "an echo": (f"POST /hook/{SECRET} HTTP/1.1\r\n\r\n".encode(), 0, "BadStatusLine"),
    "hangs up": (b"\0", 0, "Connection aborted|BadStatusLine|closed connection"),
    "drips": (b"HTTP/1.1 200 OK\r\n" * 1000, 0.02, "it did not answer within [messages] timeout = 0.3 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_webhook_that_does_not_work_is_one_warning_and_never_shown(
    fault: str, server: Server, tmp_path: Path, configuration: LuigiConfigParser, caplog: pytest.LogCaptureFixture
) -> None:
    break_, reason = FAULTS[fault]
    url = server.put("/a", stream(FRAMES))
    post_to(hook(server), configuration, timeout="0.3")
    server.once()
    server.once(break_)
    check_one_warning(url, tmp_path, reason, caplog)
    assert len(posted(server)) == 1


@pytest.mark.parametrize("answer", ANSWERS)
def test_so_is_one_that_is_no_web_server(
    answer: str, server: Server, tmp_path: Path, configuration: LuigiConfigParser, caplog: pytest.LogCaptureFixture
) -> None:
    said, pause, reason = ANSWERS[answer]
    with answering(said, pause) as port:
        post_to(f"http://127.0.0.1:{port}/hook/{SECRET}", configuration, timeout="0.3")
        check_one_warning(server.put("/a", stream(FRAMES)), tmp_path, reason, caplog)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/", "[Errno 111] Connection refused"),
        ("http://no-such-host.invalid/", ""),
        ("https://127.0.0.1:port/", "SSL|EOF|record layer|wrong version"),
        (f"http://{'x' * 70}.example.org/", ""),
    ],
)
def test_so_is_one_that_cannot_be_reached(
    url: str,
    reason: str,
    server: Server,
    tmp_path: Path,
    configuration: LuigiConfigParser,
    caplog: pytest.LogCaptureFixture,
) -> None:
    post_to(url.replace("port", str(server.port)) + SECRET, configuration)
    check_one_warning(server.put("/a", stream(FRAMES)), tmp_path, reason, caplog)


def check_one_warning(url: str, folder: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Run; it ends well, with a warning of the webhook, and the webhook itself is in no log of anybody."""
    with caplog.at_level(logging.DEBUG):
        assert run(url, folder / "cam")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    said = warning.removeprefix("the webhook of [messages] did not take the message: ")
    assert said != warning
    assert any(one in said for one in reason.split("|"))
    assert SECRET not in caplog.text


def test_a_header_that_urllib3_would_warn_of_tells_no_secret(
    server: Server, tmp_path: Path, configuration: LuigiConfigParser, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(b"HTTP/1.1 204 No Content\r\nno header\r\n\r\n") as port, caplog.at_level(logging.DEBUG):
        post_to(f"http://127.0.0.1:{port}/hook/{SECRET}", configuration)
        assert run(server.put("/a", stream(FRAMES)), tmp_path / "cam")
    assert SECRET not in caplog.text


@pytest.fixture
def chat(tmp_path: Path) -> dict[str, str]:
    """An environment with the shipped luigi.cfg, but for a webhook that stands in the environment, too."""
    text = CONFIG.read_text().replace("webhook =\n", "webhook = ${CHAT_WEBHOOK}\n")
    (tmp_path / "chat.cfg").write_text(f"{text}\n[email]\nreceiver = me@example.org\n")
    return {"LUIGI_CONFIG_PATH": str(tmp_path / "chat.cfg")}


MAIN = ("CombineGif", "--local-scheduler", "--workspace", "w", "--download-retry-wait", "0")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_plain_command_sends_one_message_and_one_mail_whatever_fails(
    workers: str, server: Server, tmp_path: Path, mailbox: Mailbox, chat: dict[str, str]
) -> None:
    (tmp_path / "w/frames/frame_02.gif").mkdir(parents=True)  # tried three times, and then given up
    options = ("--smtp-host", "127.0.0.1", "--smtp-port", str(mailbox.port), "--workers", workers)
    url = server.put("/a", stream(FRAMES))
    failed = command(*MAIN, "--url", url, *options, folder=tmp_path, CHAT_WEBHOOK=hook(server), **chat)
    assert failed.returncode == 30
    assert [message["state"] for message in posted(server)] == ["failed"]
    assert [mail["Subject"] for _, mail in mailbox.mails] == ["imagetl_luigi: failed: w"]
    assert "WriteFrame: StorageError: cannot write w/frames/frame_02.gif: Is a directory" in body(mailbox.mails[0][1])
    assert SECRET not in failed.stdout + failed.stderr


def test_a_dead_webhook_does_not_change_the_exit_code(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    dead = ("--messages-webhook", f"http://127.0.0.1:9/{SECRET}")
    done = command(*MAIN, "--url", url, *dead, folder=tmp_path)
    assert done.returncode == 0
    assert (
        "WARNING: the webhook of [messages] did not take the message: [Errno 111] Connection refused\n" in done.stderr
    )
    assert SECRET not in done.stdout + done.stderr


def test_a_run_that_is_stopped_says_so(server: Server, tmp_path: Path) -> None:
    url = server.put("/a", stream(FRAMES))
    server.once(hold(100))
    options = ("--messages-webhook", hook(server))
    with started(*MAIN, "--url", url, *options, folder=tmp_path) as running:
        part = tmp_path / "w/image-data.img.part"
        until(lambda: part.exists() and part.stat().st_size == 100, 30)
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert running.returncode != 0
    assert [(message["state"], message["errors"]) for message in posted(server)] == [("interrupted", [])]


def test_a_run_that_lacks_its_luigid_says_so(server: Server, tmp_path: Path, chat: dict[str, str]) -> None:
    impatient = (tmp_path / "chat.cfg").read_text().replace("rpc_retry_attempts = 36", "rpc_retry_attempts = 1")
    (tmp_path / "chat.cfg").write_text(impatient)
    luigid = ("--scheduler-url", "http://anna:hunter2@127.0.0.1:9/")
    arguments = ("CombineGif", *luigid, "--url", server.url("/a"), "--workspace", "w")
    lost = command(*arguments, folder=tmp_path, CHAT_WEBHOOK=hook(server), **chat)
    assert lost.returncode == 40
    (message,) = posted(server)
    assert message["state"] == "failed"
    assert message["text"].startswith("imagetl_luigi: failed: w\n")
    assert "RPCError: Errors (1 attempts) when connecting to remote scheduler" in message["text"]
    assert "hunter2" not in json.dumps(message) + lost.stderr


@pytest.mark.parametrize(
    ("webhook", "message"),
    [(f"hooks.example.org/{SECRET}", "[messages] webhook is no URL"), (None, "[messages] webhook of luigi.cfg cannot")],
)
def test_a_webhook_that_cannot_be_one_is_refused_before_anything_is_done(
    webhook: str | None, message: str, server: Server, tmp_path: Path, chat: dict[str, str]
) -> None:
    given = {"CHAT_WEBHOOK": webhook} if webhook else {}
    refused = command(*MAIN, "--url", server.url("/a"), folder=tmp_path, **chat, **given)
    assert refused.returncode == 40
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert SECRET not in refused.stderr
    assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["chat.cfg"]


def test_the_name_of_a_stream_that_is_not_made_is_enough_where_nobody_knows_why() -> None:
    animations = tuple(Animation(name=name, gif="", manifest="", state=MISSING) for name in "ab")
    report = Report(state=FAILED, tasks=(), seconds=1, animations=animations, errors=(), more_errors=0)
    assert report.text.splitlines()[2:] == ["not made: a", "not made: b"]
    assert report.failed_streams == ""
