from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh import cli
from mesh.authority import make_folder
from mesh.channels import HealthState, check_health, from_rpc_error, open_channel
from mesh.errors import FailedPreconditionError, UnavailableError
from mesh.service import serve
from mesh.settings import ServerSettings
from mesh.tls import ClientTls, TlsError, client_tls, explain
from mesh.web.server import make_server_config
from tests.mesh.rpc import call
from tests.security.conftest import HOSTS
from tests.security.rig import METHOD, NAME, Echo, client_of, echoing, identity_of, server_files


async def refusal(address: str, tls: ClientTls | None, **options: Any) -> str:
    """What the mesh says of a call that does not come through."""
    async with open_channel(address, tls=tls, **options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "unary_unary", METHOD)
    error = from_rpc_error(caught.value, "stt", address)
    assert isinstance(error, UnavailableError)
    assert "\n" not in error.message
    return error.message


async def answer(address: str, tls: ClientTls | None) -> bytes:
    async with open_channel(address, tls=tls) as channel:
        found: bytes = await call(channel, "unary_unary", METHOD)
        return found


@pytest.mark.promise("tls")
async def test_a_service_with_a_certificate_serves_nobody_in_plain(certs: Path) -> None:
    known = client_of(certs, with_identity=False)
    async with echoing(known, **server_files(certs)) as address:
        assert await answer(address, known) == b"ok"
        assert "hung up on the greeting: perhaps it speaks TLS" in await refusal(address, None)


@pytest.mark.promise("mtls")
async def test_a_caller_must_show_a_certificate_of_the_authority(certs: Path, foreign_certs: Path) -> None:
    files = server_files(certs) | {"tls_client_ca": certs / "ca.pem"}
    stranger = ClientTls(certs / "ca.pem", identity_of(foreign_certs, "client"))
    async with echoing(client_of(certs), **files) as address:
        assert await answer(address, client_of(certs)) == b"ok"
        for tls in (client_of(certs, with_identity=False), stranger, None):
            assert "asks for a client certificate" in await refusal(address, tls)
            async with open_channel(address, tls=tls) as channel:
                assert (await check_health(channel, NAME, 20)).state is HealthState.DOWN


@pytest.mark.promise("trust")
async def test_a_caller_trusts_only_its_authority_and_the_right_name(
    certs: Path, foreign_certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = client_of(certs, with_identity=False)
    async with echoing(known, **server_files(certs)) as address:
        other = client_of(foreign_certs, with_identity=False)
        assert "not signed by an authority of UNMUTE_TLS_CA" in await refusal(address, other)
        assert "for another name" in await refusal(address, known, name="elsewhere.example")
        monkeypatch.setenv("UNMUTE_TLS_CA", str(foreign_certs / "ca.pem"))
        assert "not signed by" in await refusal(address, None)
        monkeypatch.setenv("UNMUTE_TLS_CA", str(certs / "ca.pem"))
        assert await answer(address, None) == b"ok"
    monkeypatch.delenv("UNMUTE_TLS_CA")
    async with echoing() as address:
        assert "does not speak TLS" in await refusal(address, known)


@pytest.mark.promise("trust")
async def test_a_caller_does_not_take_an_expired_certificate(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "old", HOSTS, days=-0.001).ca.parent
    pair = [((folder / "stt.key").read_bytes(), (folder / "stt.pem").read_bytes())]
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    await server.start()
    try:
        refused = await refusal(f"127.0.0.1:{port}", client_of(folder, with_identity=False))
    finally:
        await server.stop(0)
    assert "its certificate has expired" in refused


def test_what_is_no_trouble_of_tls_is_not_told_as_such() -> None:
    assert not explain("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused")
    assert not explain("Socket closed")


@pytest.mark.promise("unix")
async def test_a_unix_socket_needs_no_certificate(
    certs: Path, unix_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMUTE_TLS_DIR", str(certs))
    service = asyncio.create_task(serve(Echo(), ServerSettings(host=unix_address)))
    try:
        async with open_channel(unix_address) as channel:
            await call(channel, "unary_unary", METHOD, wait_for_ready=True)
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


def replace(source: Path, target: Path) -> None:
    """Puts a copy in the place of a file in one go, with a time of its own."""
    draft = target.with_suffix(".draft")
    shutil.copy(source, draft)
    newer = target.stat().st_mtime_ns + 1_000_000_000
    os.utime(draft, ns=(newer, newer))
    draft.replace(target)


@pytest.mark.promise("reload")
async def test_a_service_takes_new_certificates_over_once_they_are_right(
    certs: Path, foreign_certs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(certs, mine)
    old, new = client_of(certs), client_of(foreign_certs)
    async with echoing(old, **server_files(mine), tls_client_ca=mine / "ca.pem") as address:
        replace(foreign_certs / "stt.pem", mine / "stt.pem")
        # The key is still the old one.
        assert await answer(address, old) == b"ok"
        assert "the old ones stay in use" in caplog.text
        assert "is not the key of the certificate" in caplog.text
        assert await answer(address, old) == b"ok"
        assert caplog.text.count("the old ones stay in use") == 1
        replace(foreign_certs / "stt.key", mine / "stt.key")
        replace(foreign_certs / "ca.pem", mine / "ca.pem")
        assert await answer(address, new) == b"ok"
        assert "not signed" in await refusal(address, old)


@pytest.mark.promise("reload")
async def test_a_caller_takes_new_certificates_over_and_goes_on_with_open_calls(
    certs: Path, foreign_certs: Path, tmp_path: Path
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    shutil.copytree(certs, mine)
    shutil.copytree(certs, theirs)
    async with (
        echoing(client_of(certs), **server_files(theirs), tls_client_ca=theirs / "ca.pem") as address,
        open_channel(address, tls=client_of(mine)) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        for file in ("stt.pem", "stt.key", "ca.pem"):
            replace(foreign_certs / file, theirs / file)
        # The old connection stands.
        assert await call(channel, "unary_unary", METHOD) == b"ok"
        for file in ("ca.pem", "client.pem", "client.key"):
            replace(foreign_certs / file, mine / file)
        assert await call(channel, "unary_unary", METHOD) == b"ok"
        assert await answer(address, client_of(mine)) == b"ok"
        assert not watched.done()
        watched.cancel()


@pytest.mark.promise("https")
@pytest.mark.promise("reload")
async def test_a_web_server_speaks_https_and_takes_new_certificates_over(
    certs: Path, foreign_certs: Path, tmp_path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def connect(folder: Path) -> bytes:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return shown

    def der(folder: Path) -> bytes:
        return ssl.PEM_cert_to_DER_cert((folder / "ui.pem").read_text())

    mine = tmp_path / "mine"
    shutil.copytree(certs, mine)
    config = make_server_config(
        app, host="127.0.0.1", port=0, drain_seconds=1, max_message_bytes=1, identity=identity_of(mine, "ui")
    )
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=config.ssl)
    async with server:
        assert await connect(certs) == der(certs)
        replace(foreign_certs / "ui.pem", mine / "ui.pem")
        replace(foreign_certs / "ui.key", mine / "ui.key")
        assert await connect(foreign_certs) == der(foreign_certs)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(certs)


def test_a_web_server_with_bad_files_does_not_start(certs: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(TlsError, match=r"nowhere\.key: there is no such file"):
        make_server_config(
            app, host="", port=0, drain_seconds=1, max_message_bytes=1, identity=identity_of(certs, "nowhere")
        )


@pytest.mark.promise("bad-files")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "stt.pem").unlink(), r"stt\.pem: there is no such file"),
        (lambda folder: (folder / "stt.key").unlink(), r"stt\.key: there is no such file"),
        (lambda folder: shutil.copy(folder / "tts.key", folder / "stt.key"), r"stt\.key: is not the key of"),
        (lambda folder: (folder / "stt.pem").write_text("hm"), r"stt\.pem: holds no PEM certificate"),
        (lambda folder: (folder / "stt.key").write_text("hm"), r"stt\.key: holds no PEM private key"),
        (lambda folder: (folder / "ca.pem").write_text("hm"), r"ca\.pem: holds no PEM certificate"),
        (
            lambda folder: make_folder(folder, HOSTS, days=-0.001, overwrite=True),
            r"stt\.pem: the certificate expired on",
        ),
    ],
)
async def test_bad_files_end_the_start_in_one_line(
    certs: Path, tmp_path: Path, change: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "certs"
    shutil.copytree(certs, folder)
    change(folder)
    settings = ServerSettings(**server_files(folder), tls_client_ca=folder / "ca.pem")
    # 2 tells `unmute up` that it is of no use to try again.
    assert await serve(Echo(), settings) == 2
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert re.search(words, errors[0])
    assert "\n" not in errors[0]


@pytest.mark.promise("bad-files")
def test_half_of_a_pair_is_refused(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TlsError, match="go together"):
        ServerSettings(tls_cert=certs / "stt.pem").tls("stt")
    with pytest.raises(TlsError, match="needs tls_cert and tls_key"):
        ServerSettings(tls_client_ca=certs / "ca.pem").tls("stt")
    monkeypatch.setenv("UNMUTE_TLS_CA", str(certs / "ca.pem"))
    monkeypatch.setenv("UNMUTE_TLS_KEY", str(certs / "client.key"))
    with pytest.raises(TlsError, match="UNMUTE_TLS_CERT and UNMUTE_TLS_KEY go together"):
        client_tls()


def test_a_setting_of_ones_own_wins_over_the_meshs(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerSettings().tls("stt") is None
    assert client_tls() is None
    monkeypatch.setenv("UNMUTE_TLS_DIR", "/folder")
    found = ServerSettings().tls("tts")
    assert found is not None
    assert (found.identity.cert, found.client_ca) == (Path("/folder/tts.pem"), Path("/folder/ca.pem"))
    monkeypatch.setenv("UNMUTE_TLS_CERT", "/c.pem")
    monkeypatch.setenv("UNMUTE_TLS_KEY", "/c.key")
    found = ServerSettings().tls("tts")
    assert found is not None
    # Whoever asked for mTLS keeps it.
    assert (found.identity.cert, found.client_ca) == (Path("/c.pem"), Path("/folder/ca.pem"))
    monkeypatch.delenv("UNMUTE_TLS_DIR")
    found = ServerSettings().tls("tts")
    assert found is not None
    assert (found.identity.cert, found.client_ca) == (Path("/c.pem"), None)
    found = ServerSettings(**server_files(certs)).tls("stt")
    assert found is not None
    assert found.identity == identity_of(certs)
    monkeypatch.setenv("UNMUTE_TLS_CA", "system")
    called = client_tls()
    assert called is not None
    assert called.ca is None


@pytest.mark.promise("certs")
def test_certificates_for_development(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert cli.main(["certs", str(folder), "--host", "mesh.example", "--host", "10.0.0.7"]) == 0
    printed = capsys.readouterr().out
    assert f"unmute up --tls-dir {folder}" in printed
    assert f"UNMUTE_TLS_CLIENT_CA={folder / 'ca.pem'}" in printed
    files = {path.name for path in folder.iterdir()}
    assert {"ca.pem", "stt.pem", "stt.key", "client.pem", "client.key"} <= files
    assert "ca.key" not in files
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}
    certificate = x509.load_pem_x509_certificate((folder / "llm.pem").read_bytes())
    lasts = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29) < lasts <= timedelta(days=30)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "llm", "mesh.example"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.0.0.7"}

    before = (folder / "stt.pem").read_bytes()
    assert cli.main(["certs", str(folder)]) == 1
    assert "is there already; --overwrite replaces it" in capsys.readouterr().err
    assert (folder / "stt.pem").read_bytes() == before
    assert cli.main(["certs", str(folder), "--overwrite"]) == 0
    assert (folder / "stt.pem").read_bytes() != before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPreconditionError, match="file"):
        make_folder(tmp_path / "file" / "certs", HOSTS, days=1)
