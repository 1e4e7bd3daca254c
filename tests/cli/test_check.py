"""`serverd check`: what a start would meet, every problem at once, and nothing changed or disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from serverd.cli.check import describe, document
from serverd.generation import Generation, Logging, Server
from serverd.supervisor.rehearsal import Finding, Report
from tests.cli.test_command import run
from tests.support.authority import Authority, Issued
from tests.support.server import Server as RunningServer

GOOD = """
import sys
print("imported", flush=True)
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    while (message := await receive())["type"] != "lifespan.shutdown":
        print("start-up", file=sys.stderr)
        await send({"type": "lifespan.startup.complete"})
    print("shutdown", file=sys.stderr)
    await send({"type": "lifespan.shutdown.complete"})
"""


def write(folder: Path, text: str, **modules: str) -> str:
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    file = folder / "server.toml"
    file.write_text(text)
    return str(file)


def config(*apps: str, more: str = "", server: str = "") -> str:
    tables = "".join(f'[apps.{app}]\napp = "{app}"\n[[mounts]]\napp = "{app}"\npath = "/{app}"\n' for app in apps)
    return f'{server}\n[listeners.web]\nbind = "127.0.0.1:0"\n{more}\n{tables}'


# With processes


def test_a_good_configuration_is_good_and_nothing_is_left_behind(tmp_path: Path) -> None:
    text = config("shop", server='[server]\npid_file = "run/x.pid"\n[logging]\nfile = "x.log"\n[control]\nsocket = "c"')
    file = write(tmp_path, text, shop=GOOD)
    before = sorted(os.listdir(tmp_path))
    done = run("check", "-c", file)
    assert (done.returncode, done.stdout) == (0, f"{file}: good: 1 listener, 1 app, 1 mount\n")
    assert done.stderr.splitlines() == ["imported", "start-up", "shutdown"]
    assert sorted(os.listdir(tmp_path)) == before


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    Authority().issue("one.example").write(tmp_path, "one")
    Authority().issue("other.example", kind="rsa").write(tmp_path, "other")
    text = config(
        "shop", "blog", "wiki",
        server='[server]\npid_file = "none/here/x.pid"\n[logging]\nfile = "none/x.log"',
        more='tls = "main"\n[tls.main]\ncertificates = [{ cert = "one.crt", key = "other.key" }]',
    ).replace('app = "wiki"\n', 'app = "wiki"\non_failure = "unavailable"\n', 1)  # fmt: skip
    crash = "async def app(scope, receive, send):\n    await receive()\n    1 / 0\n"
    file = write(tmp_path, text, shop="import nothing_there", blog=crash, wiki="x = (")
    text = Path(file).read_text().replace('app = "blog"\n', 'app = "blog"\nlifespan = "on"\n', 1)
    Path(file).write_text(text)
    done = run("check", "-c", file, "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    told = [(item["severity"], item["message"]) for item in report["findings"]]
    assert report["ok"] is False
    assert told == [
        ("problem", f"certificate of tls.main ({tmp_path}/one.crt): the key does not belong to the certificate"),
        ("problem", f"cannot open the log file {tmp_path}/none/x.log: its directory must exist"),
        ("problem", f"cannot write the pid file {tmp_path}/none/here/x.pid: there is no directory {tmp_path}/none"
                    f" ({tmp_path}/none/here would be made in it)"),
        ("problem", "apps.shop: importing 'shop' failed: ModuleNotFoundError: No module named 'nothing_there'"),
        ("problem", "apps.blog: ended before its start-up was complete"),
        ("warning", "apps.wiki: importing 'wiki' failed: SyntaxError: '(' was never closed"),
    ]  # fmt: skip
    shop = next(item for item in report["findings"] if "shop" in item["message"])
    assert (shop["file"], shop["line"]) == ("server.toml", text[: text.index('app = "shop"')].count("\n") + 1)
    assert shop["detail"].startswith("Traceback (most recent call last):")


def test_ciphers_that_go_with_no_certificate_are_warned_of(tmp_path: Path) -> None:
    more = (
        'tls = "main"\n[tls.main]\ncertificates = [{ cert = "a.crt", key = "a.key" }]\n'
        'ciphers = "ECDHE-RSA-AES128-GCM-SHA256"'
    )
    file = write(tmp_path, config("shop", more=more), shop=GOOD)
    Authority().issue("a.example").write(tmp_path, "a")
    done = run("check", "-c", file, "--no-lifespan")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        f'server.toml:7: warning: ciphers of tls.main: none of "ECDHE-RSA-AES128-GCM-SHA256" can be used with'
        f" {tmp_path}/a.crt, whose key is of the kind ec: clients that speak TLS 1.2 at most are refused"
        ' (expected other suites, or min_version = "1.3" and none)'
    )


def test_a_chain_that_is_right_by_its_names_only_is_warned_of(tmp_path: Path) -> None:
    issued = Authority(deep=True).issue("a.example")
    own = issued.cert.partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    false = Authority(deep=True, impostor=True).issue("x.example").cert.split("-----END CERTIFICATE-----\n")[1]
    more = 'tls = "main"\n[tls.main]\ncertificates = [{ cert = "a.crt", key = "a.key" }]'
    file = write(tmp_path, config("shop", more=more), shop=GOOD)
    issued.write(tmp_path, "a")
    assert run("check", "-c", file, "--no-lifespan").stdout == f"{file}: good: 1 listener, 1 app, 1 mount\n"
    (tmp_path / "a.crt").write_text(f"{own}{false}-----END CERTIFICATE-----\n")
    done = run("check", "-c", file, "--no-lifespan")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f'server.toml:6: warning: certificate of tls.main: {tmp_path}/a.crt has as certificate 2 "root intermediate",'
        ' which has not signed certificate 1 "a.example", although it has the name of its issuer: clients refuse it'
        " (expected the authority's present certificate)",
        f"{file}: good: 1 listener, 1 app, 1 mount, 1 warning",
    ]


# Where the certificate of the issuer can be had, as public authorities have it in what they issue.
PLACE = x509.AuthorityInformationAccess(
    [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca/"))]
)


@pytest.mark.parametrize(
    ("cert", "told"),
    [
        (
            Authority("a.example").issue("a.example"),
            "is signed by itself: clients refuse it unless they have been told to trust it (expected one that an"
            " authority has signed, as by `serverd dev-cert`)",
        ),
        (
            Authority().issue("a.example", more=[PLACE]),
            'holds no certificate of "root", who has signed it: clients refuse it unless they have that (expected the'
            " whole chain, which certbot calls fullchain.pem)",
        ),
        (Authority(deep=True).issue("a.example", more=[PLACE]), ""),
    ],
)
def test_a_certificate_without_its_authority_is_warned_of(tmp_path: Path, cert: Issued, told: str) -> None:
    more = 'tls = "main"\n[tls.main]\ncertificates = [{ cert = "a.crt", key = "a.key" }]'
    file = write(tmp_path, config("shop", more=more), shop=GOOD)
    cert.write(tmp_path, "a")
    warnings = run("check", "-c", file, "--no-lifespan").stdout.splitlines()[:-1]
    place = f"server.toml:6: warning: certificate of tls.main: {tmp_path}/a.crt"
    assert warnings == ([f"{place} {told}"] if told else [])


def test_without_lifespan_applications_are_only_imported(tmp_path: Path) -> None:
    file = write(tmp_path, config("shop"), shop=GOOD)
    done = run("check", "-c", file, "--no-lifespan")
    assert (done.returncode, done.stderr) == (0, "imported\n")


def test_a_preloaded_application_is_checked_by_the_preloader(tmp_path: Path) -> None:
    file = write(tmp_path, config("shop", server="[server]\npreload = true"), shop="import os\nos._exit(7)")
    done = run("check", "-c", file)
    assert done.returncode == 3
    assert "the preloader exited with status 7, the applications are not imported\n" in done.stdout


def test_a_running_server_is_not_disturbed(tmp_path: Path) -> None:
    app = "async def app(scope, receive, send):\n" + "".join(
        f"    await send({message})\n"
        for message in [{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": b"hi"}]
    )
    more = '[listeners.local]\nbind = "unix:x.sock"'
    file = write(tmp_path, config("shop", more=more, server='[server]\npid_file = "run/x.pid"'), shop=app)
    with RunningServer(Path(file)) as server:
        host, port = server.address("web")
        # Only now, so that the file has the port that is taken.
        Path(file).write_text(Path(file).read_text().replace("127.0.0.1:0", f"{host}:{port}"))
        inode = os.lstat(tmp_path / "x.sock").st_ino
        done = run("check", "-c", file)
        notes = [line for line in done.stdout.splitlines() if "note: " in line]
        assert (done.returncode, len(notes)) == (0, 2)
        assert f"{host}:{port} is in use by the running server (process {server.pid}), and was not tried" in notes[0]
        assert os.lstat(tmp_path / "x.sock").st_ino == inode
        assert (tmp_path / "run" / "x.pid").read_text() == f"{server.pid}\n"
        assert urllib.request.urlopen(f"http://{host}:{port}/shop", timeout=10).read() == b"hi"


def test_an_application_that_hangs_is_given_up_and_an_end_before_the_end_is_no_success(tmp_path: Path) -> None:
    hangs = "import time\nprint('here', flush=True)\ntime.sleep(100)\n"
    file = write(tmp_path, config("shop", server='[server]\nstart_timeout = "1s"'), shop=hangs)
    done = run("check", "-c", file)
    assert done.returncode == 3
    assert " within 1 s (start_timeout)\n" in done.stdout  # a busy machine does not even come to the import
    Path(file).write_text(config("shop"))
    command = [sys.executable, "-m", "serverd", "check", "-c", file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "here\n"
        process.send_signal(signal.SIGQUIT)  # at once; SIGINT gives the application some seconds
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "serverd: interrupted\n")


# What is not valid


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is a directory"),
        ("x = ", "server.toml:1: "),
        ("[server]\nworkres = 2\n", 'server.toml:2: server.workres: unknown key (did you mean "workers"?)\n'),
    ],
)
def test_what_cannot_be_read_is_told_as_at_a_start(tmp_path: Path, text: str | None, said: str) -> None:
    path = str(tmp_path) if text is None else write(tmp_path, text)
    done = run("check", "-c", path)
    assert (done.returncode, done.stderr) == (3, "")
    assert said in done.stdout


# In memory


def report(**found: Any) -> Report:
    generation = Generation("/srv/server.toml", Server(), (), (), (), Logging())
    return Report(generation=generation, is_complete=True, **found)


def test_findings_have_their_place_first_and_then_how_bad_they_are() -> None:
    found = report(
        problems=[Finding("server.toml:3: no\x1b[2J", "because\nof it"), Finding("no file: 17")],
        warnings=[Finding("/etc/apps.d/x.toml:9: hm: hm")],
        notes=[Finding("server.toml:4: by the way")],
    )
    assert describe(found, "x.toml").splitlines() == [
        "server.toml:3: no\\x1b[2J",
        "    because",
        "    of it",
        "no file: 17",
        "/etc/apps.d/x.toml:9: warning: hm: hm",
        "server.toml:4: note: by the way",
        "x.toml: 2 problems, 1 warning: a server would not start with it",
    ]


def test_warnings_do_not_make_it_bad() -> None:
    found = report(warnings=[Finding("x:1: hm"), Finding("x:2: hm")])
    assert found.is_good
    assert describe(found, "x").splitlines()[-1] == "x: good: 0 listeners, 0 apps, 0 mounts, 2 warnings"


def test_a_report_of_the_loader_becomes_findings_for_programs() -> None:
    found = Report(invalid="server.toml:2: a: bad\n   2 | a = 1\nother: worse\n2 problems in server.toml, other")
    assert document(found, "/x/server.toml") == {
        "ok": False,
        "source": "/x/server.toml",
        "findings": [
            {"severity": "problem", "file": "server.toml", "line": 2, "message": "a: bad", "detail": None},
            {"severity": "problem", "file": None, "line": None, "message": "other: worse", "detail": None},
        ],
    }
