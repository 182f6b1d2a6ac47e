"""What Azure's own clients make of the stand-in: input and output are JSON."""

import base64
import hashlib
import json
import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientAssertionCredential, ClientSecretCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm, SignatureAlgorithm
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.models import RoleAssignmentCreateParameters
from azure.mgmt.keyvault import KeyVaultManagementClient
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROLE = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
FIRST = "aaaaaaaa-0000-4000-8000-000000000001"
SECOND = "aaaaaaaa-0000-4000-8000-000000000002"


def refusal(action):
    try:
        action()
    except HttpResponseError as error:
        return error.error.code if error.error else str(error.status_code)
    return "done"


def locked_out(credential):
    try:
        credential.get_token("https://vault.azure.net/.default")
    except ClientAuthenticationError:
        return True
    return False


given = json.load(sys.stdin)
said = {}
job = ClientAssertionCredential(given["tenant"], given["client"], lambda: given["assertion"])
person = ClientSecretCredential(given["tenant"], given["client"], given["secret"])

crypto = CryptographyClient(given["wrapping_key"], job)
wrapped = base64.urlsafe_b64decode(given["wrapped"] + "==")
said["unwrapped"] = crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key.hex()
# Where it may read the key, this client wraps with the public one by itself.
wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, bytes.fromhex(given["data_key"])).encrypted_key
said["wrapped"] = base64.urlsafe_b64encode(wrapped).rstrip(b"=").decode()

vault = KeyClient(f"https://{given['vault']}.vault.azure.net", person)
key = vault.get_key("release", given["signing_key"].rsplit("/", 1)[1])
numbers = ec.EllipticCurvePublicNumbers(
    int.from_bytes(key.key.x, "big"), int.from_bytes(key.key.y, "big"), ec.SECP256R1()
)
said["public_key"] = (
    numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()
)
signer = CryptographyClient(given["signing_key"], person)
digest = hashlib.sha256(given["message"].encode()).digest()
raw = signer.sign(SignatureAlgorithm.es256, digest).signature
said["signature"] = utils.encode_dss_signature(
    int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
).hex()
r, s = utils.decode_dss_signature(bytes.fromhex(given["signature"]))
raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
said["verified"] = signer.verify(SignatureAlgorithm.es256, digest, raw).is_valid

found = KeyVaultManagementClient(person, given["subscription"]).vaults.get(given["group"], given["vault"])
said["rbac"] = found.properties.enable_rbac_authorization

assignments = AuthorizationManagementClient(person, given["subscription"]).role_assignments
scope = given["scope"]
definition = f"/subscriptions/{given['subscription']}/providers/Microsoft.Authorization/roleDefinitions/{ROLE}"


def assign(name, principal, at=scope):
    return assignments.create(
        at,
        name,
        RoleAssignmentCreateParameters(
            role_definition_id=definition,
            principal_id=principal,
            principal_type="ServicePrincipal",
            description="protected-registry delivery theirs",
        ),
    )


said["description"] = assignments.get(scope, given["granted"]).description
listed = assignments.list_for_scope(scope, filter="atScope()")
said["listed"] = [item.name for item in listed if item.scope == scope]
assignments.delete(scope, given["granted"])
said["assignment"] = assign(FIRST, given["other"]).name
assign(FIRST, given["other"])
said["refusals"] = {
    "duplicate": refusal(lambda: assign(SECOND, given["other"])),
    "renamed": refusal(lambda: assign(FIRST, given["other"], scope.rsplit("/", 2)[0])),
    "principal": refusal(lambda: assign(SECOND, given["unknown"])),
    "missing": refusal(lambda: vault.get_key("absent")),
    "ciphertext": refusal(
        lambda: CryptographyClient(given["wrapping_key"], person).unwrap_key(
            KeyWrapAlgorithm.rsa_oaep_256, bytes(256)
        )
    ),
    "secret": locked_out(ClientSecretCredential(given["tenant"], given["client"], "wrong")),
    "subject": locked_out(
        ClientAssertionCredential(given["tenant"], given["client"], lambda: given["foreign_assertion"])
    ),
}
json.dump(said, sys.stdout)
