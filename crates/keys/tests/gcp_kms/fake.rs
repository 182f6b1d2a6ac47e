//! A stand-in for Google Cloud, as strict as the real one: Cloud KMS, the IAM policies of its keys, the token services
//! and the machine's metadata. Google's own client works with it unchanged (`sdk.rs`).

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{Digest, SHA256},
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_SHA256, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub(crate) const POOL: &str = "projects/1234567890/locations/global/workloadIdentityPools/ci";
const ISSUER: &str = "https://ci.example";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const CLOUDKMS: &str = "https://www.googleapis.com/auth/cloudkms";
const IAM: &str = "https://www.googleapis.com/auth/iam";

/// What each role may do, of what is asked for here.
const ROLES: &[(&str, &[&str])] = &[
    ("roles/cloudkms.admin", &["cryptoKeys.getIamPolicy", "cryptoKeys.setIamPolicy"]),
    ("roles/cloudkms.cryptoKeyEncrypter", &["cryptoKeyVersions.useToEncrypt"]),
    ("roles/cloudkms.cryptoKeyDecrypter", &["cryptoKeyVersions.useToDecrypt"]),
    (
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        &["cryptoKeyVersions.useToEncrypt", "cryptoKeyVersions.useToDecrypt"],
    ),
    ("roles/cloudkms.signerVerifier", &["cryptoKeyVersions.useToSign", "cryptoKeyVersions.viewPublicKey"]),
    ("roles/viewer", &[]),
];

/// A running stand-in.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    cloud: Arc<Mutex<Cloud>>,
}

/// What it holds.
#[derive(Default)]
pub(crate) struct Cloud {
    keys: BTreeMap<String, Key>,
    tokens: BTreeMap<String, Access>,
    accounts: BTreeMap<String, Account>,
    users: BTreeMap<String, String>,
    /// The CI platform that it trusts.
    issuer: Option<(String, PublicKey)>,
    /// How much later it is here than elsewhere.
    pub(crate) ahead: SignedDuration,
    /// What it lets nobody do, whatever a policy says.
    pub(crate) denies: Option<&'static str>,
    /// Every request, in order.
    pub(crate) calls: Vec<Call>,
    /// Changes answers before they leave.
    pub(crate) tamper: Option<Tamper>,
}

type PublicKey = RsaPublicKeyComponents<Vec<u8>>;

pub(crate) type Tamper = Box<dyn FnMut(&Call, &mut Answer) + Send>;

#[derive(Clone, Default)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) pace: Pace,
}

/// How an answer comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Whole,
    /// A gibibyte, said and sent.
    Flood,
    /// Not at all: the connection ends.
    Lost,
}

struct Key {
    versions: Vec<Version>,
    algorithm: String,
    policy: Value,
    etag: u64,
}

struct Version {
    state: &'static str,
    material: Material,
}

enum Material {
    Symmetric(Box<RandomizedNonceKey>),
    Signing(Box<EcdsaKeyPair>),
}

struct Access {
    member: String,
    until: Timestamp,
    scopes: Vec<String>,
}

#[derive(Default)]
struct Account {
    /// The public halves of its keys.
    keys: Vec<PublicKey>,
    /// Who may become it.
    users: Vec<String>,
}

/// A CI platform, or a service account, that signs tokens.
pub(crate) struct Issuer {
    key: RsaKeyPair,
}

/// Why a request is refused, in Google's form or in that of OAuth.
enum Refusal {
    Google(u16, &'static str, String),
    OAuth(&'static str, String),
}

use Refusal::{Google, OAuth};

type Result<T, E = Refusal> = std::result::Result<T, E>;

impl Issuer {
    pub(crate) fn new() -> Self {
        Self { key: RsaKeyPair::generate(KeySize::Rsa2048).expect("RSA") }
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let rng = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &rng, message.as_bytes(), &mut signature).expect("signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// An ID token of the CI platform for `audience`, changed by `change`.
    pub(crate) fn id_token(&self, audience: &str, change: impl Fn(&mut Value)) -> String {
        let now = Timestamp::now().as_second();
        let mut claims =
            json!({"iss": ISSUER, "sub": "acme/core", "aud": audience, "iat": now, "exp": now + 300});
        change(&mut claims);
        self.sign(&json!({"alg": "RS256", "typ": "JWT", "kid": "1"}), &claims)
    }

    /// The file of a service account's key, as the console hands it out.
    pub(crate) fn file(&self, email: &str, token_uri: &str) -> Value {
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.key).expect("DER");
        json!({
            "type": "service_account",
            "project_id": "acme-prod",
            "private_key_id": "k1",
            "private_key": pem("PRIVATE KEY", der.as_ref()),
            "client_email": email,
            "client_id": "1",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        })
    }

    fn public(&self) -> PublicKey {
        let key = self.key.public_key();
        let number = |number: aws_lc_rs::io::Positive<'_>| number.big_endian_without_leading_zero().to_vec();
        PublicKey { n: number(key.modulus()), e: number(key.exponent()) }
    }
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let cloud = Arc::new(Mutex::new(Cloud::default()));
        let shared = cloud.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let cloud = shared.clone();
                thread::spawn(move || serve(stream, &cloud));
            }
        });
        Self { address, cloud }
    }

    pub(crate) fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().expect("cloud")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables that say where it is.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        [
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", ""),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_STS", ""),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", ""),
            ("CLOUDSDK_AUTH_TOKEN_HOST", "/token"),
        ]
        .map(|(name, path)| (name.to_owned(), format!("{}{path}", self.url())))
        .into()
    }

    /// Changes every answer from now on.
    pub(crate) fn tamper(&self, change: impl FnMut(&Call, &mut Answer) + Send + 'static) {
        self.cloud().tamper = Some(Box::new(change));
    }

    pub(crate) fn honest(&self) {
        self.cloud().tamper = None;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.cloud().calls.clone()
    }
}

impl Cloud {
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// A key that wraps, or one that signs.
    pub(crate) fn key(&mut self, name: &str, algorithm: &str) {
        let policy = json!({"bindings": []});
        let key = Key { versions: Vec::new(), algorithm: algorithm.to_owned(), policy, etag: 1 };
        self.keys.insert(name.to_owned(), key);
        self.rotate(name);
    }

    pub(crate) fn rotate(&mut self, name: &str) {
        let key = self.keys.get_mut(name).expect("key");
        let material = if key.algorithm.starts_with("EC_SIGN") {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
            Material::Signing(Box::new(pair.expect("pair")))
        } else {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).expect("random");
            Material::Symmetric(Box::new(RandomizedNonceKey::new(&AES_256_GCM, &bytes).expect("key")))
        };
        key.versions.push(Version { state: "ENABLED", material });
    }

    pub(crate) fn set_state(&mut self, name: &str, version: usize, state: &'static str) {
        self.keys.get_mut(name).expect("key").versions[version - 1].state = state;
    }

    /// Gives a role on a key, as an administrator would by hand.
    pub(crate) fn bind(&mut self, name: &str, role: &str, member: &str) {
        self.bind_if(name, role, member, Value::Null);
    }

    pub(crate) fn bind_if(&mut self, name: &str, role: &str, member: &str, condition: Value) {
        let key = self.keys.get_mut(name).expect("key");
        let mut binding = json!({"role": role, "members": [member]});
        if !condition.is_null() {
            binding["condition"] = condition;
        }
        key.policy["bindings"].as_array_mut().expect("bindings").push(binding);
        key.etag += 1;
    }

    pub(crate) fn audit(&mut self, name: &str, configs: Value) {
        self.keys.get_mut(name).expect("key").policy["auditConfigs"] = configs;
    }

    pub(crate) fn policy(&self, name: &str) -> Value {
        self.keys[name].policy.clone()
    }

    /// An access token of `member` for an hour.
    pub(crate) fn token(&mut self, member: &str) -> String {
        self.issue(member.to_owned(), vec![CLOUD_PLATFORM.to_owned()])
    }

    fn issue(&mut self, member: String, scopes: Vec<String>) -> String {
        let token = format!("ya29.{}-{}", self.tokens.len(), member.len());
        let until = self.now() + SignedDuration::from_hours(1);
        self.tokens.insert(token.clone(), Access { member, until, scopes });
        token
    }

    /// Trusts a CI platform.
    pub(crate) fn trust(&mut self, issuer: &Issuer) {
        let PublicKey { n, e } = issuer.public();
        let key = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e)});
        self.trust_key(ISSUER, &key);
    }

    /// Trusts one by its key (RFC 7517).
    pub(crate) fn trust_key(&mut self, issuer: &str, key: &Value) {
        let number =
            |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().expect("number")).expect("base64");
        self.issuer = Some((issuer.to_owned(), PublicKey { n: number("n"), e: number("e") }));
    }

    /// A service account, a key of it, and who may become it.
    pub(crate) fn account(&mut self, email: &str, key: Option<&Issuer>, user: Option<&str>) {
        let account = self.accounts.entry(email.to_owned()).or_default();
        account.keys.extend(key.map(Issuer::public));
        account.users.extend(user.map(str::to_owned));
    }

    /// Somebody who logged in with a browser.
    pub(crate) fn user(&mut self, refresh_token: &str, member: &str) {
        self.users.insert(refresh_token.to_owned(), member.to_owned());
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let (status, body) = match self.route(call) {
            Ok(body) => (200, body),
            Err(Google(code, status, message)) => {
                (code, json!({"error": {"code": code, "status": status, "message": message}}))
            }
            Err(OAuth(error, text)) => (400, json!({"error": error, "error_description": text})),
        };
        let mut answer = Answer { status, body, pace: Pace::Whole };
        if let Some(mut tamper) = self.tamper.take() {
            tamper(call, &mut answer);
            self.tamper = Some(tamper);
        }
        answer
    }

    fn route(&mut self, call: &Call) -> Result<Value> {
        let path = call.path.as_str();
        let verb = path.strip_prefix("/v1/projects/").and_then(|rest| rest.rsplit_once(':'));
        match (call.method.as_str(), path, verb) {
            ("POST", "/v1/token", _) => self.exchange(&form(call)?),
            ("POST", "/token", _) => self.oauth(&form(call)?),
            ("GET", "/computeMetadata/v1/instance/service-accounts/default/token", _) => {
                if call.headers.get("metadata-flavor").map(String::as_str) != Some("Google") {
                    return Err(Google(403, "PERMISSION_DENIED", "no Metadata-Flavor".to_owned()));
                }
                let scopes = vec![CLOUD_PLATFORM.to_owned()];
                let token =
                    self.issue("serviceAccount:machine@acme-prod.iam.gserviceaccount.com".to_owned(), scopes);
                Ok(json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}))
            }
            ("POST", _, Some((account, "generateAccessToken"))) => {
                let account = account.strip_prefix("-/serviceAccounts/").unwrap_or_default().to_owned();
                self.impersonate(call, &account)
            }
            ("POST", _, Some((name, "encrypt"))) => self.encrypt(call, &format!("projects/{name}")),
            ("POST", _, Some((name, "decrypt"))) => self.decrypt(call, &format!("projects/{name}")),
            ("POST", _, Some((name, "asymmetricSign"))) => self.sign(call, &format!("projects/{name}")),
            ("GET", _, Some((name, "getIamPolicy"))) => self.get_policy(call, &format!("projects/{name}")),
            ("POST", _, Some((name, "setIamPolicy"))) => self.set_policy(call, &format!("projects/{name}")),
            ("GET", _, None) if path.ends_with("/publicKey") => {
                self.public_key(call, path.trim_start_matches("/v1/").trim_end_matches("/publicKey"))
            }
            _ => Err(Google(404, "NOT_FOUND", "Requested entity was not found.".to_owned())),
        }
    }

    /// Who asks, by the access token, if that is for one of these scopes.
    fn caller(&self, call: &Call, scopes: &[&str]) -> Result<String> {
        let text = "Request had invalid authentication credentials. Expected OAuth 2 access token.";
        let unknown = || Google(401, "UNAUTHENTICATED", text.to_owned());
        let bearer = call.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let access = bearer.and_then(|token| self.tokens.get(token)).ok_or_else(unknown)?;
        if access.until <= self.now() {
            return Err(unknown());
        }
        if !access.scopes.iter().any(|scope| scope == CLOUD_PLATFORM || scopes.contains(&scope.as_str())) {
            let text = "Request had insufficient authentication scopes.";
            return Err(Google(403, "PERMISSION_DENIED", text.to_owned()));
        }
        Ok(access.member.clone())
    }

    /// Returns the key, if whoever calls may do this with it.
    fn allowed(&mut self, call: &Call, name: &str, permission: &str) -> Result<&mut Key> {
        let member = self.caller(call, &[CLOUDKMS])?;
        let now = self.now();
        let denied = || {
            let text = format!(
                "Permission 'cloudkms.{permission}' denied on resource '{name}' (or it may not exist)."
            );
            Google(403, "PERMISSION_DENIED", text)
        };
        let key = name.split("/cryptoKeyVersions/").next().unwrap_or_default();
        let key = self.keys.get_mut(key).ok_or_else(denied)?;
        let bindings = key.policy["bindings"].as_array().expect("bindings");
        let allows = |binding: &Value| {
            let role = ROLES.iter().find(|(role, _)| binding["role"] == *role);
            let members = binding["members"].as_array().expect("members");
            role.is_some_and(|(_, permissions)| permissions.contains(&permission))
                && members.iter().any(|found| *found == *member || is_everybody(found))
                && holds(&binding["condition"], now)
        };
        let denies = self.denies == Some(permission);
        if !denies && bindings.iter().any(allows) { Ok(key) } else { Err(denied()) }
    }

    fn encrypt(&mut self, call: &Call, name: &str) -> Result<Value> {
        let body = object(
            call,
            &[
                "plaintext",
                "additionalAuthenticatedData",
                "plaintextCrc32c",
                "additionalAuthenticatedDataCrc32c",
            ],
        )?;
        let key = self.allowed(call, name, "cryptoKeyVersions.useToEncrypt")?;
        let plaintext = bytes(&body, "plaintext")?;
        let aad = bytes(&body, "additionalAuthenticatedData")?;
        if plaintext.is_empty() || plaintext.len() > 64 * 1024 {
            return Err(invalid("The plaintext must be between 1 and 65536 bytes."));
        }
        let plain_verified = verified(&body, "plaintext", "plaintext_crc32c", &plaintext)?;
        let aad_verified =
            verified(&body, "additionalAuthenticatedData", "additional_authenticated_data_crc32c", &aad)?;
        // Without a version it is the primary, which here is the newest.
        let number = match name.split_once("/cryptoKeyVersions/") {
            Some((_, number)) => number.parse().map_err(|_| invalid("a version is a number"))?,
            None => key.versions.len(),
        };
        let (full, version) = enabled(key, name, number)?;
        let Material::Symmetric(secret) = &version.material else {
            return Err(precondition(format!("{full} is not enabled for ENCRYPT_DECRYPT.")));
        };
        let mut sealed = plaintext;
        let nonce = secret.seal_in_place_append_tag(Aad::from(&aad), &mut sealed).expect("sealed");
        let mut ciphertext = vec![0x0a, u8::try_from(number).expect("few versions")];
        ciphertext.extend_from_slice(nonce.as_ref());
        ciphertext.extend_from_slice(&sealed);
        let mut answer = json!({
            "name": full,
            "ciphertext": STANDARD.encode(&ciphertext),
            "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
            "protectionLevel": "SOFTWARE",
        });
        // What is false is left out.
        for (field, verified) in [
            ("verifiedPlaintextCrc32c", plain_verified),
            ("verifiedAdditionalAuthenticatedDataCrc32c", aad_verified),
        ] {
            if verified {
                answer[field] = true.into();
            }
        }
        Ok(answer)
    }

    fn decrypt(&mut self, call: &Call, name: &str) -> Result<Value> {
        let body = object(
            call,
            &[
                "ciphertext",
                "additionalAuthenticatedData",
                "ciphertextCrc32c",
                "additionalAuthenticatedDataCrc32c",
            ],
        )?;
        if name.contains("/cryptoKeyVersions/") {
            return Err(Google(404, "NOT_FOUND", "Method not found.".to_owned()));
        }
        let key = self.allowed(call, name, "cryptoKeyVersions.useToDecrypt")?;
        let ciphertext = bytes(&body, "ciphertext")?;
        let aad = bytes(&body, "additionalAuthenticatedData")?;
        verified(&body, "ciphertext", "ciphertext_crc32c", &ciphertext)?;
        verified(&body, "additionalAuthenticatedData", "additional_authenticated_data_crc32c", &aad)?;
        let broken = || invalid("Decryption failed: the ciphertext is invalid.");
        let [0x0a, number, rest @ ..] = ciphertext.as_slice() else { return Err(broken()) };
        let number = usize::from(*number);
        if number == 0 || number > key.versions.len() || rest.len() < 12 {
            return Err(invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey."));
        }
        let used_primary = number == key.versions.len();
        let (_, version) = enabled(key, name, number)?;
        let Material::Symmetric(secret) = &version.material else { return Err(broken()) };
        let nonce = Nonce::try_assume_unique_for_key(&rest[..12]).map_err(|_| broken())?;
        let mut opened = rest[12..].to_vec();
        let plaintext = secret.open_in_place(nonce, Aad::from(&aad), &mut opened).map_err(|_| broken())?;
        let mut answer = json!({
            "plaintext": STANDARD.encode(&*plaintext),
            "plaintextCrc32c": crc32c(plaintext).to_string(),
            "protectionLevel": "SOFTWARE",
        });
        if used_primary {
            answer["usedPrimary"] = true.into();
        }
        Ok(answer)
    }

    fn sign(&mut self, call: &Call, name: &str) -> Result<Value> {
        let body = object(call, &["digest", "digestCrc32c"])?;
        let key = self.allowed(call, name, "cryptoKeyVersions.useToSign")?;
        let (full, version) = versioned(key, name)?;
        let Material::Signing(pair) = &version.material else {
            return Err(invalid(&format!("{full} is not enabled for ASYMMETRIC_SIGN.")));
        };
        let digest = bytes(&body["digest"], "sha256")?;
        if digest.len() != 32 || body["digest"].as_object().is_some_and(|digest| digest.len() != 1) {
            return Err(invalid("The digest must be a SHA-256 digest of 32 bytes."));
        }
        let verified = verified(&body, "digest", "digest_crc32c", &digest)?;
        let digest = Digest::import_less_safe(&digest, &SHA256).expect("digest");
        let signature = pair.sign_digest(&digest).expect("signature");
        let mut answer = json!({
            "name": full,
            "signature": STANDARD.encode(signature.as_ref()),
            "signatureCrc32c": crc32c(signature.as_ref()).to_string(),
            "protectionLevel": "SOFTWARE",
        });
        if verified {
            answer["verifiedDigestCrc32c"] = true.into();
        }
        Ok(answer)
    }

    fn public_key(&mut self, call: &Call, name: &str) -> Result<Value> {
        let key = self.allowed(call, name, "cryptoKeyVersions.viewPublicKey")?;
        let algorithm = key.algorithm.clone();
        let (full, version) = versioned(key, name)?;
        let Material::Signing(pair) = &version.material else {
            return Err(invalid(&format!("{full} has no public key.")));
        };
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        let pem = pem("PUBLIC KEY", der.as_ref());
        let checksum = crc32c(pem.as_bytes()).to_string();
        Ok(
            json!({"name": full, "pem": pem, "pemCrc32c": checksum, "algorithm": algorithm, "protectionLevel": "SOFTWARE"}),
        )
    }

    fn get_policy(&mut self, call: &Call, name: &str) -> Result<Value> {
        let wanted = call.query.get("options.requestedPolicyVersion").map_or("1", String::as_str);
        let key = self.allowed(call, name, "cryptoKeys.getIamPolicy")?;
        let mut policy = key.policy.clone();
        policy["etag"] = etag(key.etag).into();
        let conditions = is_conditional(&policy);
        if wanted == "3" {
            policy["version"] = if conditions { 3 } else { 1 }.into();
            return Ok(policy);
        }
        // Who does not ask for them is shown no conditions.
        policy["version"] = 1.into();
        for binding in policy["bindings"].as_array_mut().expect("bindings") {
            if let Some(condition) = binding.as_object_mut().expect("binding").remove("condition") {
                let mark = crc32c(condition.to_string().as_bytes());
                binding["role"] =
                    format!("{}_withcond_{mark:08x}", binding["role"].as_str().expect("role")).into();
            }
        }
        Ok(policy)
    }

    fn set_policy(&mut self, call: &Call, name: &str) -> Result<Value> {
        let body = object(call, &["policy", "updateMask"])?;
        let key = self.allowed(call, name, "cryptoKeys.setIamPolicy")?;
        let mut policy = body["policy"].clone();
        if let Some(mask) = body["updateMask"].as_str()
            && !mask.split(',').all(|path| ["bindings", "etag", "version", "auditConfigs"].contains(&path))
        {
            return Err(invalid("Invalid update mask."));
        }
        let given = policy.as_object_mut().map(|policy| policy.remove("etag")).unwrap_or_default();
        // As Google's: without an etag, whatever is there is overwritten.
        if given.is_some_and(|given| given != etag(key.etag)) {
            let text = "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.";
            return Err(Google(409, "ABORTED", text.to_owned()));
        }
        if policy["version"] != 3 && (is_conditional(&policy) || is_conditional(&key.policy)) {
            return Err(invalid("To set a policy with conditions, specify version 3."));
        }
        let bindings = policy["bindings"].as_array().cloned().unwrap_or_default();
        let audit = policy.get("auditConfigs").or_else(|| key.policy.get("auditConfigs")).cloned();
        key.policy = json!({"bindings": merged(&bindings)?});
        if let Some(audit) = audit {
            key.policy["auditConfigs"] = audit;
        }
        key.etag += 1;
        let mut written = key.policy.clone();
        written["etag"] = etag(key.etag).into();
        written["version"] = if is_conditional(&written) { 3 } else { 1 }.into();
        Ok(written)
    }

    /// RFC 8693, at the token service of workload identity federation.
    fn exchange(&mut self, form: &BTreeMap<String, String>) -> Result<Value> {
        let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let kinds = ["jwt", "id_token"].map(|kind| format!("urn:ietf:params:oauth:token-type:{kind}"));
        if given("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange"
            || given("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token"
            || !kinds.contains(&given("subject_token_type").to_owned())
            || given("scope").is_empty()
        {
            return Err(OAuth("invalid_request", "Invalid token exchange request.".to_owned()));
        }
        let provider = format!("{POOL}/providers/jobs");
        if given("audience") != format!("//iam.googleapis.com/{provider}") {
            let text = "The target service indicated by the \"audience\" parameters is invalid.";
            return Err(OAuth("invalid_target", text.to_owned()));
        }
        let refuse = |text: &str| OAuth("invalid_grant", text.to_owned());
        let (issuer, public) = self.issuer.clone().ok_or_else(|| refuse("The provider has no issuer."))?;
        let claims = claims(given("subject_token"), &[public])
            .ok_or_else(|| refuse("Error connecting to the given credential's issuer: bad signature."))?;
        let audiences =
            [format!("https://iam.googleapis.com/{provider}"), format!("//iam.googleapis.com/{provider}")];
        let now = self.now().as_second();
        if claims["iss"] != issuer {
            return Err(refuse("The issuer in ID Token does not match the expected ones."));
        }
        if !audiences.iter().any(|audience| claims["aud"] == *audience) {
            let found = &claims["aud"];
            return Err(refuse(&format!(
                "The audience in ID Token [{found}] does not match the expected audience."
            )));
        }
        if claims["exp"].as_i64().is_none_or(|exp| exp <= now)
            || claims["iat"].as_i64().is_none_or(|iat| iat > now + 60)
        {
            return Err(refuse("ID Token issued at is stale to sign-in."));
        }
        let subject = claims["sub"].as_str().ok_or_else(|| refuse("The subject is missing."))?;
        let member = format!("principal://iam.googleapis.com/{POOL}/subject/{subject}");
        let scopes = given("scope").split(' ').map(str::to_owned).collect();
        let token = self.issue(member, scopes);
        Ok(json!({
            "access_token": token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3599,
        }))
    }

    /// The token endpoint for keys of service accounts (RFC 7523), and for those who logged in.
    fn oauth(&mut self, form: &BTreeMap<String, String>) -> Result<Value> {
        let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refuse = |text: &str| OAuth("invalid_grant", text.to_owned());
        let (member, scopes) = match given("grant_type") {
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let unverified_email = unverified(given("assertion"))["iss"].as_str().map(str::to_owned);
                let email = unverified_email.ok_or_else(|| refuse("Invalid JWT."))?;
                let account = self.accounts.get(&email);
                let account = account.ok_or_else(|| refuse("Invalid grant: account not found"))?;
                let claims = claims(given("assertion"), &account.keys)
                    .ok_or_else(|| refuse("Invalid JWT Signature."))?;
                let (iat, exp) = (claims["iat"].as_i64(), claims["exp"].as_i64());
                let (Some(iat), Some(exp)) = (iat, exp) else { return Err(refuse("Invalid JWT.")) };
                let now = self.now().as_second();
                if (iat - now).abs() > 300 || exp <= now || exp - iat > 3600 {
                    return Err(refuse(
                        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
                    ));
                }
                if claims["aud"] != "https://oauth2.googleapis.com/token" {
                    return Err(refuse("Invalid JWT: Failed audience check."));
                }
                let scopes = claims["scope"].as_str().unwrap_or_default();
                (format!("serviceAccount:{email}"), scopes.split(' ').map(str::to_owned).collect())
            }
            "refresh_token" => {
                if given("client_id") != "id" || given("client_secret") != "hush" {
                    return Err(OAuth("invalid_client", "Unauthorized".to_owned()));
                }
                let member = self.users.get(given("refresh_token"));
                let member = member.ok_or_else(|| refuse("Token has been expired or revoked."))?;
                (member.clone(), vec![CLOUD_PLATFORM.to_owned()])
            }
            _ => return Err(OAuth("unsupported_grant_type", "Invalid grant_type.".to_owned())),
        };
        let token = self.issue(member, scopes);
        Ok(json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}))
    }

    fn impersonate(&mut self, call: &Call, email: &str) -> Result<Value> {
        let body = object(call, &["scope", "lifetime", "delegates"])?;
        let member = self.caller(call, &[IAM])?;
        if !self.accounts.get(email).is_some_and(|account| account.users.contains(&member)) {
            let text =
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
            return Err(Google(403, "PERMISSION_DENIED", text.to_owned()));
        }
        let scopes = body["scope"].as_array().cloned().unwrap_or_default();
        let scopes: Vec<_> = scopes.iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect();
        let lifetime = body["lifetime"].as_str().unwrap_or("3600s").trim_end_matches('s').parse();
        if scopes.is_empty() || lifetime.is_ok_and(|seconds: u32| seconds > 3600) {
            return Err(invalid("Request contains an invalid argument."));
        }
        let token = self.issue(format!("serviceAccount:{email}"), scopes);
        let until = self.now() + SignedDuration::from_hours(1);
        Ok(json!({"accessToken": token, "expireTime": format!("{until:.0}")}))
    }
}

fn invalid(text: &str) -> Refusal {
    Google(400, "INVALID_ARGUMENT", text.to_owned())
}

fn precondition(text: String) -> Refusal {
    Google(400, "FAILED_PRECONDITION", text)
}

fn etag(number: u64) -> String {
    STANDARD.encode(number.to_be_bytes())
}

fn is_conditional(policy: &Value) -> bool {
    policy["bindings"]
        .as_array()
        .is_some_and(|bindings| bindings.iter().any(|binding| !binding["condition"].is_null()))
}

/// The one expression that is known here.
fn ends(expression: &str) -> Option<Timestamp> {
    let end = expression.strip_prefix("request.time < timestamp(\"")?.strip_suffix("\")")?;
    end.parse().ok()
}

fn holds(condition: &Value, now: Timestamp) -> bool {
    condition.is_null() || condition["expression"].as_str().and_then(ends).is_some_and(|end| now < end)
}

fn is_everybody(member: &Value) -> bool {
    member == "allUsers" || member == "allAuthenticatedUsers"
}

/// Checks bindings as IAM does, and joins those that say the same.
fn merged(bindings: &[Value]) -> Result<Vec<Value>> {
    let mut joined: Vec<Value> = Vec::new();
    for binding in bindings {
        let Some(role) = ROLES.iter().find(|(role, _)| binding["role"] == *role) else {
            return Err(invalid(&format!("Role {} is not supported for this resource.", binding["role"])));
        };
        let condition = &binding["condition"];
        if !condition.is_null() {
            let title = condition["title"].as_str().unwrap_or_default();
            if title.is_empty() || title.len() > 100 {
                return Err(invalid("A condition has a title of at most 100 characters."));
            }
            if condition["expression"].as_str().and_then(ends).is_none() {
                return Err(invalid("Condition expression compilation failed."));
            }
        }
        let members = binding["members"].as_array().cloned().unwrap_or_default();
        for member in &members {
            let text = member.as_str().unwrap_or_default();
            let email = ["user:", "serviceAccount:", "group:"]
                .iter()
                .any(|kind| text.strip_prefix(kind).is_some_and(|email| email.contains('@')));
            let set = ["principal://iam.googleapis.com/", "principalSet://iam.googleapis.com/"]
                .iter()
                .any(|kind| text.starts_with(kind));
            let all = is_everybody(member) && condition.is_null();
            if !(email || set || all) {
                return Err(invalid(&format!("Invalid value for member {text}.")));
            }
            let written = if email {
                let (kind, email) = text.split_once(':').expect("kind");
                format!("{kind}:{}", email.to_lowercase())
            } else {
                text.to_owned()
            };
            let same = |found: &&mut Value| found["role"] == role.0 && found["condition"] == *condition;
            match joined.iter_mut().find(same) {
                Some(found)
                    if found["members"].as_array().expect("members").contains(&written.clone().into()) => {}
                Some(found) => found["members"].as_array_mut().expect("members").push(written.into()),
                None => {
                    let mut made = binding.clone();
                    made["members"] = json!([written]);
                    joined.push(made);
                }
            }
        }
    }
    let mut expressions: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    for binding in joined.iter().filter(|binding| !binding["condition"].is_null()) {
        for member in binding["members"].as_array().expect("members") {
            let of = expressions.entry((binding["role"].to_string(), member.to_string())).or_default();
            if !of.contains(&&binding["condition"]["expression"]) {
                of.push(&binding["condition"]["expression"]);
            }
        }
    }
    if expressions.values().any(|of| of.len() > 20) {
        return Err(invalid("A member has more than 20 conditions for one role."));
    }
    Ok(joined)
}

fn versioned<'a>(key: &'a Key, name: &str) -> Result<(String, &'a Version)> {
    let number = name.split_once("/cryptoKeyVersions/").and_then(|(_, number)| number.parse().ok());
    let number = number.ok_or_else(|| Google(404, "NOT_FOUND", "Method not found.".to_owned()))?;
    enabled(key, name, number)
}

/// Returns a version by its full name, if it may be used.
fn enabled<'a>(key: &'a Key, name: &str, number: usize) -> Result<(String, &'a Version)> {
    let full = format!(
        "{}/cryptoKeyVersions/{number}",
        name.split("/cryptoKeyVersions/").next().unwrap_or_default()
    );
    let version = number.checked_sub(1).and_then(|at| key.versions.get(at));
    let version =
        version.ok_or_else(|| Google(404, "NOT_FOUND", format!("CryptoKeyVersion {full} not found.")))?;
    if version.state != "ENABLED" {
        return Err(precondition(format!("{full} is not enabled, current state is: {}.", version.state)));
    }
    Ok((full, version))
}

/// A body of JSON with no other fields than these, as Google's parser wants it.
fn object(call: &Call, fields: &[&str]) -> Result<Value> {
    let body: Value =
        serde_json::from_slice(&call.body).map_err(|_| invalid("Invalid JSON payload received."))?;
    let unknown = body.as_object().and_then(|body| body.keys().find(|name| !fields.contains(&name.as_str())));
    match (body.is_object(), unknown) {
        (true, None) => Ok(body),
        (_, Some(name)) => Err(invalid(&format!(
            "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."
        ))),
        _ => Err(invalid("Invalid JSON payload received.")),
    }
}

fn bytes(body: &Value, field: &str) -> Result<Vec<u8>> {
    let wrong = || invalid(&format!("Invalid value at '{field}' (TYPE_BYTES), Base64 decoding failed"));
    match &body[field] {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => STANDARD.decode(text).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// Compares the checksum of a field, and returns whether there was one.
fn verified(body: &Value, field: &str, name: &str, bytes: &[u8]) -> Result<bool> {
    let given = match &body[format!("{field}Crc32c").as_str()] {
        Value::Null => return Ok(false),
        Value::String(text) => text.parse::<i64>().ok(),
        number => number.as_i64(),
    };
    if given == Some(i64::from(crc32c(bytes))) {
        return Ok(true);
    }
    Err(invalid(&format!("The checksum in field {name} did not match the data in field {field}.")))
}

/// CRC-32C bit by bit, to be another than the one that is tested.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
}

fn unverified(token: &str) -> Value {
    part(token, 1)
}

/// The claims of a token that one of these keys signed.
fn claims(token: &str, keys: &[PublicKey]) -> Option<Value> {
    let (message, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let signed =
        |key: &PublicKey| key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature).is_ok();
    (part(token, 0)["alg"] == "RS256" && keys.iter().any(signed)).then(|| part(token, 1))
}

fn form(call: &Call) -> Result<BTreeMap<String, String>> {
    let kind = call.headers.get("content-type").map(String::as_str).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(OAuth("invalid_request", "expected a form".to_owned()));
    }
    Ok(url::form_urlencoded::parse(&call.body).into_owned().collect())
}

fn serve(stream: TcpStream, cloud: &Mutex<Cloud>) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = read(&mut reader) {
        let answer = {
            let mut cloud = cloud.lock().expect("cloud");
            cloud.calls.push(call.clone());
            cloud.answer(&call)
        };
        let last = call.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if write(reader.get_mut(), &answer).is_none() || last {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let url = url::Url::parse("http://fake").ok()?.join(target).ok()?;
    let mut call = Call {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        ..Call::default()
    };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        call.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = call.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    call.body = vec![0; length];
    reader.read_exact(&mut call.body).ok()?;
    Some(call)
}

/// Writes an answer, and returns whether another may follow.
fn write(stream: &mut TcpStream, answer: &Answer) -> Option<()> {
    let body = answer.body.to_string();
    let length = if answer.pace == Pace::Flood { 1 << 30 } else { body.len() };
    let head = format!(
        "HTTP/1.1 {} x\r\ncontent-type: application/json; charset=UTF-8\r\ncontent-length: {length}\r\n\r\n",
        answer.status
    );
    match answer.pace {
        Pace::Lost => return None,
        Pace::Whole => {
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?
        }
        Pace::Flood => {
            stream.write_all(head.as_bytes()).ok()?;
            for _ in 0..1 << 14 {
                stream.write_all(&[b' '; 1 << 16]).ok()?;
            }
        }
    }
    Some(())
}
