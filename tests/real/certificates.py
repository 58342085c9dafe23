"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str, subject: str = "", authority: str = "") -> Path:
    """NAME.pem and NAME.key in the folder; the certificate's path.

    ``subject``: the name or address it is for, such as ``IP:127.0.0.1``; ``authority``: the name of the
    one in the folder that signs it. Without one it is an authority itself.
    """
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]
    if authority:
        command += ["-CA", str(folder / f"{authority}.pem"), "-CAkey", str(folder / f"{authority}.key")]
        command += ["-addext", f"subjectAltName={subject}", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate
