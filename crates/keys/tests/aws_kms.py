"""AWS KMS and STS for tests, and boto3 as a stranger's client.

`serve` runs moto behind the checks that the real services make and moto does not: signatures (calculated anew by
botocore), the clock, ID tokens, who may do what, grants with their context, names of grants, states of keys, and
which key a text was wrapped with. What to go wrong with stands in the path: `<url>/fault/<name>/...`.
`serve <issuer> <JWKS>` takes the tokens of that issuer as well.

`call <service> <operation>` calls boto3 with the JSON on its input, bytes as {"base64": ...}.
"""

import base64
import datetime
import email.utils
import json
import os
import re
import sys
import threading
import time
import urllib.parse
import uuid

REGION = "eu-central-1"
ACCOUNT = "123456789012"
PUBLISHER = f"arn:aws:iam::{ACCOUNT}:role/publisher"
GLOBEX = "arn:aws:iam::444455556666:role/globex"
INITECH = "arn:aws:iam::777788889999:role/initech"
ISSUER = "https://ci.example"
SUBJECT = "repo:acme/core:ref:refs/heads/main"
AUDIENCE = "sts.amazonaws.com"
SKEW = 300
OPERATIONS = {
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "GetPublicKey",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "VerifyMac",
    "DeriveSharedSecret",
}


def serve(also=None, jwks=None):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from moto.kms.models import kms_backends
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.wrappers import Request, Response

    moto = DomainDispatcherApplication(create_backend_app)
    kms = kms_backends[ACCOUNT][REGION]
    issuer = rsa.generate_private_key(65537, 2048)
    stranger = rsa.generate_private_key(65537, 2048)
    issuers = {ISSUER: issuer.public_key()}
    if also:
        (jwk,) = json.loads(jwks)["keys"]
        number = lambda name: int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big")
        issuers[also] = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
    lock = threading.RLock()
    log = {}

    def b64url(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def id_token(key=issuer, **claims):
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 3600, **claims}
        signed = ".".join(b64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, body))
        return signed + "." + b64url(key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))

    def fault_of(path):
        return (re.match(r"/fault/([a-z0-9-]+)/", path) or [None, ""])[1]

    def clock(path):
        """The time of the service, which is another for `/fault/ahead<seconds>/` and `/fault/behind<seconds>/`."""
        apart = re.fullmatch(r"(ahead|behind)(\d+)", fault_of(path)) or [None, "ahead", 0]
        return time.time() + (1 if apart[1] == "ahead" else -1) * int(apart[2])

    class Refused(Exception):
        def __init__(self, code, message, status=400):
            self.code, self.message, self.status = code, message, status

    def make(spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT", state="Enabled"):
        key = kms.create_key(None, usage, spec, "", [], False)
        key.key_state = state
        return key.arn

    keys = {
        "one": make(),
        "two": make(),
        "disabled": make(state="Disabled"),
        "pending": make(state="PendingDeletion"),
        "p256": make("ECC_NIST_P256", "SIGN_VERIFY"),
        "p384": make("ECC_NIST_P384", "SIGN_VERIFY"),
        "rsa": make("RSA_2048", "SIGN_VERIFY"),
        "p256-disabled": make("ECC_NIST_P256", "SIGN_VERIFY", "Disabled"),
    }
    for name, key in (("alias/acme", "one"), ("alias/moving", "one"), ("alias/release", "p256")):
        kms.create_alias(keys[key].rsplit("/")[-1], name)
        keys[name] = f"arn:aws:kms:{REGION}:{ACCOUNT}:{name}"

    # Access key id: secret, token, who, until when.
    people = {
        "AKIAPUBLISHER0000001": ("secret-of-the-publisher/+0123456789", None, PUBLISHER, None),
        "ASIAGLOBEX0000000001": ("secret-of-globex", "token-of-globex-0123456789", GLOBEX, None),
        "ASIAINITECH000000001": ("secret-of-initech", "token-of-initech-0123456789", INITECH, None),
        "ASIAEXPIRED000000001": ("secret-of-yesterday", "token-of-yesterday-0123456789", PUBLISHER, 1.0),
    }

    def who(request, body, url, now):
        """Verifies the signature, and returns who made it."""
        header = request.headers.get("authorization")
        if not header:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        form = r"AWS4-HMAC-SHA256 Credential=([^/ ]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
        parts = re.fullmatch(form, header)
        if not parts:
            raise Refused("IncompleteSignatureException", "Authorization header is not in its form")
        access, day, region, service, names, signature = parts.groups()
        names = names.split(";")
        for needed in ("host", "x-amz-date", "x-amz-target", "content-type"):
            if needed not in names:
                raise Refused(
                    "InvalidSignatureException", f"'{needed}' must be a 'SignedHeader' in the AWS Authorization."
                )
        for name in request.headers.keys():
            if name.lower().startswith("x-amz-") and name.lower() not in names:
                raise Refused(
                    "InvalidSignatureException", f"'{name}' must be a 'SignedHeader' in the AWS Authorization."
                )
        if region != REGION or service != "kms":
            raise Refused("InvalidSignatureException", "Credential should be scoped to a valid region.")
        known = people.get(access)
        if known is None or known[1] != request.headers.get("x-amz-security-token"):
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        secret, token, principal, until = known
        stamp = request.headers["x-amz-date"]
        signed_at = (
            datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
        )
        written = lambda at: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        if signed_at < now - SKEW:
            raise Refused(
                "InvalidSignatureException",
                f"Signature expired: {stamp} is now earlier than {written(now - SKEW)} ({written(now)} - 5 min.)",
            )
        if signed_at > now + SKEW:
            raise Refused(
                "InvalidSignatureException",
                f"Signature not yet current: {stamp} is still later than {written(now + SKEW)} ({written(now)} + 5 min.)",
            )
        if stamp[:8] != day:
            raise Refused(
                "InvalidSignatureException",
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
            )
        anew = AWSRequest("POST", url, {name: request.headers[name] for name in names}, body)
        anew.context["timestamp"] = stamp
        auth = SigV4Auth(Credentials(access, secret, token), service, region)
        canonical = auth.canonical_request(anew)
        if auth.signature(auth.string_to_sign(anew, canonical), anew) != signature:
            raise Refused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String "
                f"for this request should have been\n'{canonical}'",
            )
        if until is not None and until < now:
            raise Refused("ExpiredTokenException", "The security token included in the request is expired")
        return principal

    def key_of(reference, alias=True):
        """Finds a key as the service does, which for grants takes no alias."""
        text = str(reference or "")
        arn = re.fullmatch(rf"arn:aws:kms:{REGION}:{ACCOUNT}:(key|alias)/(.+)", text)
        if arn:
            kind, name = arn.groups()
        elif text.startswith("alias/"):
            kind, name = "alias", text[6:]
        else:
            kind, name = "key", text
        if kind == "alias":
            if not alias:
                raise Refused("NotFoundException", f"Invalid keyId '{text}'")
            name = kms.get_key_id_from_alias("alias/" + name)
        if name not in kms.keys:
            raise Refused("NotFoundException", f"Key '{text}' does not exist")
        return kms.keys[name]

    def usable(key):
        if key.key_state == "Disabled":
            raise Refused("DisabledException", f"{key.arn} is disabled.")
        if key.key_state != "Enabled":
            raise Refused("KMSInvalidStateException", f"{key.arn} is pending deletion.")

    def wrapped_with(blob):
        """The key that a text was wrapped with: moto writes its id in front."""
        key = kms.keys.get(base64.b64decode(blob)[:36].decode("ascii", "replace"))
        if key is None:
            raise Refused("InvalidCiphertextException", None)
        return key

    def admits(grant, context):
        lower = lambda pairs: {name.lower(): value for name, value in pairs.items()}
        constraints = grant.constraints or {}
        context = lower(context)
        equals, subset = constraints.get("EncryptionContextEquals"), constraints.get("EncryptionContextSubset")
        if equals is not None and lower(equals) != context:
            return False
        return subset is None or lower(subset).items() <= context.items()

    def allowed(principal, operation, body):
        """The policy of the keys: the publisher may do everything, and everybody else what a grant says."""
        if principal.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/publisher/") or principal == PUBLISHER:
            return
        if operation == "Decrypt":
            key = wrapped_with(body["CiphertextBlob"])
            context = body.get("EncryptionContext") or {}
            for grant in key.grants.values():
                if grant.grantee_principal == principal and "Decrypt" in grant.operations and admits(grant, context):
                    return
        raise Refused(
            "AccessDeniedException",
            f"User: {principal} is not authorized to perform: kms:{operation} on this resource because the resource does "
            "not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access",
        )

    def create_grant(body):
        key = key_of(body["KeyId"], alias=False)
        name = body.get("Name")
        if name is not None and not re.fullmatch(r"[a-zA-Z0-9:/_-]{1,256}", name):
            raise Refused("ValidationException", "Value at 'name' failed to satisfy constraint")
        operations = body.get("Operations") or []
        if not operations or set(operations) - OPERATIONS:
            raise Refused("ValidationException", "Value at 'operations' failed to satisfy constraint")
        grantee = body.get("GranteePrincipal", "")
        if not re.fullmatch(
            r"arn:aws:(iam::\d{12}:(root|(user|role)/[\w+=,.@/-]+)|sts::\d{12}:assumed-role/.+)", grantee
        ):
            raise Refused("InvalidArnException", f"ARN does not refer to a valid principal: {grantee}")
        constraints = body.get("Constraints")
        if len(json.dumps(constraints)) > 8192:
            raise Refused("ValidationException", "Value at 'constraints' failed to satisfy constraint")
        for grant in key.grants.values():
            same = (grant.grantee_principal, set(grant.operations), grant.constraints, grant.retiring_principal)
            if (
                name is not None
                and grant.name == name
                and same == (grantee, set(operations), constraints, body.get("RetiringPrincipal"))
            ):
                return {"GrantId": grant.id, "GrantToken": uuid.uuid4().hex}
        grant = key.add_grant(name, grantee, operations, constraints, body.get("RetiringPrincipal"))
        del key.grants[grant.id]
        grant.id = os.urandom(32).hex()
        key.grants[grant.id] = grant
        return {"GrantId": grant.id, "GrantToken": grant.token}

    def list_grants(body):
        grants = list(key_of(body["KeyId"], alias=False).grants.values())
        start = int(body.get("Marker") or 0)
        end = start + min(int(body.get("Limit") or 50), 100)
        page = {"Grants": [grant.to_json() for grant in grants[start:end]], "Truncated": end < len(grants)}
        return {**page, "NextMarker": str(end)} if end < len(grants) else page

    def checked(principal, operation, body):
        """Answers what moto would answer otherwise than the service, and nothing for what is moto's."""
        allowed(principal, operation, body)
        if operation == "CreateGrant":
            usable(key_of(body["KeyId"], alias=False))
            return create_grant(body)
        if operation == "ListGrants":
            return list_grants(body)
        if operation == "RevokeGrant":
            key = key_of(body["KeyId"], alias=False)
            if body["GrantId"] not in key.grants:
                raise Refused("NotFoundException", f"Grant ID {body['GrantId']} not found")
            return None
        named = {
            "Encrypt": ["KeyId"],
            "Decrypt": ["KeyId"],
            "ReEncrypt": ["SourceKeyId", "DestinationKeyId"],
            "Sign": ["KeyId"],
            "GetPublicKey": ["KeyId"],
        }
        for field in named.get(operation, []):
            if field in body or operation not in ("Decrypt", "ReEncrypt"):
                usable(key_of(body.get(field)))
        if operation in ("Decrypt", "ReEncrypt"):
            key = wrapped_with(body["CiphertextBlob"])
            asked = body.get("KeyId") if operation == "Decrypt" else body.get("SourceKeyId")
            if asked is not None and key_of(asked) is not key:
                raise Refused(
                    "IncorrectKeyException",
                    "The key ID in the request does not identify a CMK that can perform this operation.",
                )
            usable(key)
        if operation == "Encrypt" and key_of(body["KeyId"]).key_usage != "ENCRYPT_DECRYPT":
            raise Refused(
                "InvalidKeyUsageException", f"{body['KeyId']} key usage is SIGN_VERIFY which is not valid for Encrypt."
            )
        if operation == "GetPublicKey" and key_of(body["KeyId"]).key_usage != "SIGN_VERIFY":
            raise Refused("UnsupportedOperationException", "GetPublicKey is not supported for this key.")
        if operation == "Sign" and body.get("MessageType") == "DIGEST":
            return sign(body)
        return None

    def sign(body):
        """moto hashes what is a digest already."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

        key = key_of(body["KeyId"])
        digest = base64.b64decode(body["Message"])
        if body["SigningAlgorithm"] not in key.signing_algorithms:
            raise Refused(
                "InvalidKeyUsageException",
                f"Algorithm {body['SigningAlgorithm']} is incompatible with key spec {key.key_spec}.",
            )
        if len(digest) != 32:
            raise Refused("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
        signature = key.private_key.private_key.sign(digest, ECDSA(Prehashed(SHA256())))
        return {
            "KeyId": key.arn,
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": body["SigningAlgorithm"],
        }

    def take_role(form):
        """AssumeRoleWithWebIdentity as far as moto believes everybody."""
        token = form.get("WebIdentityToken", "")
        if form.get("RoleArn") != PUBLISHER:
            raise Refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", form.get("RoleSessionName", "")):
            raise Refused("ValidationError", "Value at 'roleSessionName' failed to satisfy constraint")
        unreadable = Refused("InvalidIdentityToken", f"Couldn't retrieve verification key for {token}")
        unpad = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        try:
            signed, signature = token.rsplit(".", 1)
            claims = json.loads(unpad(signed.split(".")[1]))
        except (ValueError, IndexError):
            raise unreadable
        if claims["iss"] not in issuers:
            raise Refused(
                "InvalidIdentityToken", "No OpenIDConnect provider found in your account for " + claims["iss"]
            )
        try:
            issuers[claims["iss"]].verify(unpad(signature), signed.encode(), padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise unreadable
        if claims["aud"] != AUDIENCE:
            raise Refused("InvalidIdentityToken", "Incorrect token audience")
        if claims["exp"] < time.time():
            raise Refused(
                "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time"
            )
        if claims["sub"] != SUBJECT:
            raise Refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)

    def lend(answer, form, fault):
        """Remembers what moto lent, as the service that takes it will."""
        text = answer.get_data(as_text=True)
        value = lambda name: re.search(f"<{name}>([^<]+)</{name}>", text).group(1)
        seconds = 0 if fault == "short" else int(form["DurationSeconds"])
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        session = f"arn:aws:sts::{ACCOUNT}:assumed-role/publisher/{form['RoleSessionName']}"
        people[value("AccessKeyId")] = (value("SecretAccessKey"), value("SessionToken"), session, time.time() + 900)
        text = re.sub("<Expiration>[^<]+<", f"<Expiration>{end:%Y-%m-%dT%H:%M:%SZ}<", text)
        return Response(text, content_type="text/xml")

    def misbehave(fault, operation, answer):
        """Turns a good answer into one that is to be refused."""
        if fault == "wrong-key-id":
            answer["KeyId"] = keys["two"]
        elif fault == "far-key-id":
            answer["KeyId"] = answer["KeyId"].replace(ACCOUNT, "999999999999")
        elif fault == "wrong-source" and "SourceKeyId" in answer:
            answer["SourceKeyId"] = keys["two"]
        elif fault == "far-source" and "SourceKeyId" in answer:
            answer["SourceKeyId"] = answer["SourceKeyId"].replace(ACCOUNT, "999999999999")
        elif fault == "unwrapped" and "CiphertextBlob" in answer:
            answer["CiphertextBlob"] = base64.b64encode(b"k" * 32).decode()
        elif fault.startswith("plaintext-") and "Plaintext" in answer:
            plain = {"other": b"o" * 32, "16": b"s" * 16, "33": b"l" * 33, "zeros": bytes(32), "none": b""}[fault[10:]]
            answer["Plaintext"] = base64.b64encode(plain).decode()
        elif fault == "plaintext" and "Plaintext" in answer:
            answer["Plaintext"] = "not base64!"
        elif fault == "signature" and "Signature" in answer:
            answer["Signature"] = base64.b64encode(base64.b64decode(answer["Signature"])[:-1] + b"x").decode()
        elif fault == "public-key" and "PublicKey" in answer:
            answer["PublicKey"] = base64.b64encode(b"no key").decode()
        elif fault == "endless" and operation == "ListGrants":
            answer.update(Truncated=True, NextMarker="0")
        elif fault == "grant-id" and "GrantId" in answer:
            answer["GrantId"] = "../../x"
        return answer

    def slowly():
        while True:
            yield b" "
            time.sleep(0.5)

    def hugely():
        for _ in range(1024):
            yield b" " * 1024 * 1024

    def answer(environ):
        request = Request(environ)
        body = request.get_data()
        url = request.base_url
        fault = fault_of(request.path)
        form = {} if "x-amz-target" in request.headers else dict(urllib.parse.parse_qsl(body.decode()))
        operation = request.headers.get("x-amz-target", "").removeprefix("TrentService.") or form.get("Action", "")
        if request.path.endswith("/log"):
            return Response(json.dumps(log.get(request.path.removesuffix("log"), [])))
        if request.path.endswith("/container"):
            if request.headers.get("authorization") != "token of the agent":
                return Response('{"code":"AccessDenied"}', 401)
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            lent = {
                "AccessKeyId": "ASIACONTAINER0000001",
                "SecretAccessKey": "secret-of-the-container",
                "Token": "token-of-the-container",
                "Expiration": end,
            }
            people[lent["AccessKeyId"]] = (lent["SecretAccessKey"], lent["Token"], PUBLISHER, time.time() + 3600)
            return Response(json.dumps(lent))
        with lock:
            calls = log.setdefault(request.path, [])
            calls.append(operation)
            count = len(calls)
        now = clock(request.path)
        passes = fault.startswith("passes") and count <= 2
        try:
            if fault.startswith("status-"):
                return Response("<html>no</html>", int(fault[7:]))
            if fault == "redirect":
                return Response("", 307, {"location": "http://127.0.0.1:9/elsewhere"})
            if fault == "slow":
                return Response(slowly(), content_type="application/x-amz-json-1.1")
            if fault == "huge":
                return Response(hugely(), content_type="application/x-amz-json-1.1")
            if fault == "huge-told":
                return Response(hugely(), headers={"content-length": str(1 << 30)})
            if fault == "html":
                return Response("<html>welcome</html>", content_type="text/html")
            if fault.startswith("empty"):
                return Response("{}", content_type="application/x-amz-json-1.1")
            if fault == "throttled" or passes:
                code = "IDPCommunicationError" if form else "ThrottlingException"
                raise Refused(code, "You have exceeded the rate at which you may call KMS.")
            if form:
                take_role(form)
                return lend(forward(environ, body), form, fault)
            principal = who(request, body, url, now)
            if fault == "echo":
                raise Refused(
                    "AccessDeniedException",
                    f"no: {request.headers.get('x-amz-security-token')} {people['AKIAPUBLISHER0000001'][0]}",
                )
            with lock:
                # boto3 sets the keys up; that is the administrator's to do, and moto's.
                done = checked(principal, operation, json.loads(body))
            if done is None:
                response = forward(environ, body)
                if response.status_code != 200:
                    return response
                done = json.loads(response.get_data() or b"{}")
            if operation == "GetPublicKey":
                # moto knows the id of the key where its ARN belongs, and a field by its former name alone.
                key = key_of(json.loads(body)["KeyId"])
                done.update(KeyId=key.arn, KeySpec=key.key_spec)
            done = misbehave(fault, operation, done)
            return Response(json.dumps(done), content_type="application/x-amz-json-1.1")
        except Refused as refused:
            if form:
                text = f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{refused.code}</Code><Message>{refused.message}</Message></Error></ErrorResponse>'
                return Response(text, refused.status, content_type="text/xml")
            said = (
                {"__type": refused.code}
                if refused.message is None
                else {"__type": "com.amazonaws.kms#" + refused.code, "message": refused.message}
            )
            return Response(json.dumps(said), refused.status, content_type="application/x-amz-json-1.1")

    def forward(environ, body):
        import io

        inner = {
            **environ,
            "PATH_INFO": "/",
            "RAW_URI": "/",
            "REQUEST_URI": "/",
            "wsgi.input": io.BytesIO(body),
            "HTTP_X_MOTO_ACCOUNT_ID": ACCOUNT,
        }
        return Response.from_app(moto, inner)

    def application(environ, start):
        return answer(environ)(environ, start)

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_):
            pass

        def date_time_string(self, timestamp=None):
            return email.utils.formatdate(clock(self.path) if timestamp is None else timestamp, usegmt=True)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    tokens = {
        "good": id_token(),
        "audience": id_token(aud="https://fractalops.example"),
        "expired": id_token(exp=int(time.time()) - 60),
        "subject": id_token(sub="repo:evil/core:ref:refs/heads/main"),
        "issuer": id_token(iss="https://evil.example"),
        "signature": id_token(key=stranger),
    }
    credentials = {
        name: {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": people[access][0],
            **({"AWS_SESSION_TOKEN": people[access][1]} if people[access][1] else {}),
        }
        for name, access in (
            ("publisher", "AKIAPUBLISHER0000001"),
            ("globex", "ASIAGLOBEX0000000001"),
            ("initech", "ASIAINITECH000000001"),
            ("expired", "ASIAEXPIRED000000001"),
        )
    }
    print(
        json.dumps(
            {
                "url": f"http://127.0.0.1:{server.port}/",
                "keys": keys,
                "credentials": credentials,
                "tokens": tokens,
                "role": PUBLISHER,
                "grantees": {"globex": GLOBEX, "initech": INITECH},
            }
        ),
        flush=True,
    )

    # It ends with whoever started it.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


def call(service, operation):
    import boto3

    def bytes_in(value):
        if isinstance(value, dict) and set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {name: bytes_in(item) for name, item in value.items()} if isinstance(value, dict) else value

    client = boto3.client(service, region_name=REGION)
    try:
        answer = getattr(client, operation)(**bytes_in(json.load(sys.stdin)))
    except client.exceptions.ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    json.dump(
        answer,
        sys.stdout,
        default=lambda value: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value),
    )


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
