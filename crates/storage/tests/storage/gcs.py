"""Google's own client against the stand-in of the XML API: what it made or was refused, as one JSON document.

It speaks that API where it sends an object in parts, and makes its addresses (signed URLs); else it speaks another."""

import datetime
import json
import sys

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.oauth2 import credentials, service_account

given = json.load(sys.stdin)


def blob(token):
    client = storage.Client(
        project="acme",
        credentials=credentials.Credentials(token) if token else AnonymousCredentials(),
        client_options={"api_endpoint": given["host"]},
    )
    return client.bucket(given["bucket"]).blob(given["name"])


def in_parts(token):
    # A part is 5 MiB at least, but for the last.
    transfer_manager.upload_chunks_concurrently(
        given["file"],
        blob(token),
        chunk_size=8 << 20,
        max_workers=3,
        worker_type="thread",
        checksum="md5",
    )


def refused(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return str(error)
    return "accepted"


said = {"stranger": refused(in_parts, "ya29.other"), "anonymous": refused(in_parts, None)}
in_parts(given["token"])

# The addresses are those of the client; who asks is shown by a token and not by the signature, which nobody looks at.
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
account = {"client_email": "ci@acme.example", "token_uri": "https://oauth2.example/token", "private_key": key}
signer = service_account.Credentials.from_service_account_info(account)
session = AuthorizedSession(credentials.Credentials(given["token"]))


def ask(method, name, body=None, generation=None):
    headers = {} if generation is None else {"x-goog-if-generation-match": str(generation)}
    at = blob(given["token"]).bucket.blob(name)
    url = at.generate_signed_url(
        version="v4",
        method=method,
        expiration=datetime.timedelta(minutes=1),
        api_access_endpoint=given["host"],
        credentials=signer,
        headers=headers,
    )
    answer = session.request(method, url.split("?")[0], data=body, headers=headers)
    return answer.status_code, int(answer.headers.get("x-goog-generation", 0))


note = given["name"] + ".note"
created = ask("PUT", note, b"one", 0)
read = ask("GET", note)
said |= {
    "size": ask("HEAD", given["name"])[0],
    "absent": ask("GET", note + "2")[0],
    "created": created[0],
    "created_again": ask("PUT", note, b"two", 0)[0],
    "same_generation": created[1] == read[1] != 0,
    "replaced": ask("PUT", note, b"three", read[1])[0],
    "replaced_again": ask("PUT", note, b"four", read[1])[0],
}
print(json.dumps(said))
