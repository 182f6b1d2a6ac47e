"""sigstore-python's verdict on each bundle of a folder.

    python verdicts.py <client trust config> <folder> <SHA-256 of the artifact> <identity> <issuer>

Prints one line a file: its name, and `accepted` or `refused` with the reason. What the library leaves to its caller, the
digest of the subject, is compared here as its command line does.
"""

import json
import sys
from pathlib import Path

from sigstore.models import Bundle, ClientTrustConfig
from sigstore.verify import Verifier, policy

config, folder, digest, identity, issuer = sys.argv[1:]
verifier = Verifier(trusted_root=ClientTrustConfig.from_json(Path(config).read_text()).trusted_root)
wanted = policy.Identity(identity=identity, issuer=issuer)


def verify(path):
    _, payload = verifier.verify_dsse(Bundle.from_json(path.read_text()), wanted)
    subjects = json.loads(payload)["subject"]
    if not any(subject["digest"].get("sha256") == digest for subject in subjects):
        raise ValueError("the statement is about another artifact")


for path in sorted(Path(folder).iterdir()):
    try:
        verify(path)
        print(f"{path.name}\taccepted")
    except Exception as error:  # whatever it is, it is a refusal
        reason = " ".join(str(error).split())[:160]
        print(f"{path.name}\trefused\t{type(error).__name__}: {reason}")
