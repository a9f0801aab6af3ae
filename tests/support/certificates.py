"""Certificates of an authority of the tests' own, made by the `openssl` program."""

import shutil
import ssl
import subprocess

import pytest


class Authority:
    """Signs certificates of servers; `pem` is what a client trusts."""

    def __init__(self, folder, name="Loopcast Tests"):
        if shutil.which("openssl") is None:
            pytest.skip("needs the openssl program")
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._made = 0
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")  # fmt: skip
        self.file = folder / "ca.pem"
        self.pem = self.file.read_text()

    def server(self, *names, days=1):
        """What a server called `names` (`IP:127.0.0.1`, `DNS:a.example`) speaks TLS with; days below 0 are over."""
        self._made += 1
        key, request, signed = (self._folder / f"{self._made}.{end}" for end in ("key", "csr", "pem"))
        extra = self._folder / f"{self._made}.ext"
        extra.write_text(f"subjectAltName={','.join(names)}\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", "/CN=test", "-keyout", key, "-out", request)  # fmt: skip
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._folder / "ca.key", "-CAcreateserial",
                 "-days", str(days), "-extfile", extra, "-out", signed)  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
