"""Google's own clients against the stand-in: what each of them made or was refused, as one JSON document."""

import base64
import hashlib
import json
import sys

import google_crc32c
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.api_core import exceptions
from google.auth import identity_pool
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceRestTransport
from google.iam.v1 import iam_policy_pb2, options_pb2, policy_pb2
from google.oauth2 import credentials, service_account
from google.type import expr_pb2

given = json.load(sys.stdin)
key, signing = given["key"], given["signing"]
aad = base64.b64decode(given["aad"])
data_key = bytes.fromhex(given["data_key"])


def client(identity):
    return kms_v1.KeyManagementServiceClient(
        transport=KeyManagementServiceRestTransport(
            host=given["host"], url_scheme="http", credentials=identity
        )
    )


def crc32c(data):
    return google_crc32c.value(data)


def refused(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except exceptions.GoogleAPICallError as error:
        # The message starts with the request.
        return f"{error.code} {error.message.split(': ', 1)[-1]}"
    return "accepted"


def encrypt(kms, name=key, checksum=crc32c(data_key)):
    made = kms.encrypt(
        request={
            "name": name,
            "plaintext": data_key,
            "plaintext_crc32c": checksum,
            "additional_authenticated_data": aad,
            "additional_authenticated_data_crc32c": crc32c(aad),
        }
    )
    assert made.verified_plaintext_crc32c and made.verified_additional_authenticated_data_crc32c
    assert made.ciphertext_crc32c == crc32c(made.ciphertext)
    return made


def decrypt(kms, ciphertext, data=aad, checksum=None):
    opened = kms.decrypt(
        request={
            "name": key,
            "ciphertext": ciphertext,
            "ciphertext_crc32c": crc32c(ciphertext) if checksum is None else checksum,
            "additional_authenticated_data": data,
            "additional_authenticated_data_crc32c": crc32c(data),
        }
    )
    assert opened.plaintext_crc32c == crc32c(opened.plaintext)
    return opened.plaintext


def policy(kms, version=3):
    options = options_pb2.GetPolicyOptions(requested_policy_version=version)
    return kms.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=key, options=options))


def set_policy(kms, wanted):
    return kms.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=key, policy=wanted))


publisher = client(credentials.Credentials(given["token"]))
stranger = client(credentials.Credentials(given["stranger"]))
said = {}

made = encrypt(publisher)
said["wrapped"] = base64.b64encode(made.ciphertext).decode()
said["version"] = made.name
said["pinned"] = encrypt(publisher, f"{key}/cryptoKeyVersions/1").name
ours = base64.b64decode(given["wrapped"])
said["opened"] = decrypt(publisher, ours).hex()
said["wrong aad"] = refused(decrypt, publisher, ours, data=b"other")
said["wrong plaintext checksum"] = refused(encrypt, publisher, checksum=1)
said["wrong ciphertext checksum"] = refused(decrypt, publisher, ours, checksum=1)
said["stranger"] = refused(encrypt, stranger)

before = policy(publisher)
said["found"] = [
    {"members": list(binding.members), "title": binding.condition.title, "expression": binding.condition.expression}
    for binding in before.bindings
    if binding.condition.title
]
said["roles without conditions"] = [binding.role for binding in policy(publisher, 1).bindings]
wanted = policy_pb2.Policy()
wanted.CopyFrom(before)
wanted.version = 3
wanted.bindings.append(
    policy_pb2.Binding(
        role="roles/cloudkms.cryptoKeyDecrypter",
        members=[given["grantee"]],
        condition=expr_pb2.Expr(
            title="protected-registry:theirs", expression='request.time < timestamp("2098-01-01T00:00:00Z")'
        ),
    )
)
said["written"] = len(set_policy(publisher, wanted).bindings) - len(before.bindings)
said["old etag"] = refused(set_policy, publisher, wanted)
flat = policy(publisher)
flat.version = 1
said["old version"] = refused(set_policy, publisher, flat)

public = publisher.get_public_key(request={"name": signing})
assert public.pem_crc32c == crc32c(public.pem.encode())
said["algorithm"] = public.algorithm.name
verifying = serialization.load_pem_public_key(public.pem.encode())
verifying.verify(bytes.fromhex(given["signature"]), given["message"].encode(), ec.ECDSA(hashes.SHA256()))
digest = hashlib.sha256(given["message"].encode()).digest()
signed = publisher.asymmetric_sign(
    request={"name": signing, "digest": {"sha256": digest}, "digest_crc32c": crc32c(digest)}
)
assert signed.verified_digest_crc32c and signed.signature_crc32c == crc32c(signed.signature)
said["signature"] = signed.signature.hex()
said["wrong digest checksum"] = refused(
    publisher.asymmetric_sign, request={"name": signing, "digest": {"sha256": digest}, "digest_crc32c": 1}
)

scopes = ["https://www.googleapis.com/auth/cloudkms"]
for name in ["job", "job as account"]:
    identity = identity_pool.Credentials.from_info(given[name], scopes=scopes)
    said[name] = encrypt(client(identity)).name
account = service_account.Credentials.from_service_account_info(given["account"], scopes=scopes)
said["account"] = encrypt(client(account)).name

json.dump(said, sys.stdout)
