//! `local-file://<name>`: a key in the key folder, for trials and tests.
//!
//! What wraps stands in the file `<name>.key`, as 64 hexadecimal digits; a data key is wrapped as a sealed bundle of
//! its own, so that the wrapping commits to the key and is bound to the context. What signs stands in `<name>.pem`, as
//! a private key of P-256 (PKCS#8). Both files are readable by their owner alone.

use std::{fs, io::Read, path::Path};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{Digest, SHA256},
    encoding::{AsDer, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use protected_bundle::{DataKey, open, seal};
use protected_http::Client;
use protected_model::{api::delivery::GrantMaterialization, digest::Sha256, key_ref::KeyRef, name::BundleId};
use zeroize::Zeroizing;

use crate::{
    Connecting, FoundGrant, GrantLimits, GrantTerms, KeyContext, KeyError, KeyService, Revoked, Settings,
    SigningKey, WrappedKey, rest,
};

/// The longest file with a key in PEM, in bytes.
const MAX_PEM_BYTES: usize = 4096;

/// What wrappings of this service are bound to, before the context.
const LABEL: &[u8] = b"protected-registry/local-file/v1\0";

/// What a key in a file means to whoever grants.
const NO_GRANTS: &str = "whoever has its file opens all that was sealed with it, and nothing takes that back";

struct LocalFile {
    reference: KeyRef,
    key: DataKey,
}

struct LocalSigningKey {
    reference: KeyRef,
    key: EcdsaKeyPair,
    public_key: Vec<u8>,
}

pub(crate) fn connect(
    key: &KeyRef,
    settings: &Settings,
    _: &Client,
) -> Result<Box<dyn KeyService>, KeyError> {
    let read = in_file(key, settings, "key", read)?;
    Ok(Box::new(LocalFile { reference: key.clone(), key: read }))
}

pub(crate) fn connect_to_sign<'a>(key: &'a KeyRef, settings: &'a Settings, _: &'a Client) -> Connecting<'a> {
    Box::pin(async move {
        let (pair, public_key) = in_file(key, settings, "pem", read_signing)?;
        Ok(Box::new(LocalSigningKey { reference: key.clone(), key: pair, public_key }) as _)
    })
}

fn in_file<T>(
    key: &KeyRef,
    settings: &Settings,
    extension: &str,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, KeyError> {
    if !settings.local_allowed {
        return Err(KeyError::LocalInCi(key.clone()));
    }
    let folder = settings.local_folder.as_ref().ok_or_else(|| KeyError::NoFolder(key.clone()))?;
    let path = folder.join(format!("{}.{extension}", key.path()));
    read(&path).map_err(|reason| KeyError::File { key: key.clone(), path, reason })
}

/// Reads a file that its owner alone may read, up to one byte more than it may have, so that what is longer is seen.
fn content(path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut file = fs::File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    private(&found)?;
    let mut text = Zeroizing::new(Vec::with_capacity(max_bytes + 1));
    (&mut file).take(max_bytes as u64 + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Reads a private key of P-256, and says nothing of what else stands in the file.
fn read_signing(path: &Path) -> Result<(EcdsaKeyPair, Vec<u8>), String> {
    const REASON: &str =
        "it does not hold one private key of P-256 (PEM, `BEGIN PRIVATE KEY`) and nothing else";
    let text = content(path, MAX_PEM_BYTES)?;
    let text = std::str::from_utf8(&text).ok().filter(|text| text.len() <= MAX_PEM_BYTES).ok_or(REASON)?;
    let der = rest::from_pem("PRIVATE KEY", text).ok_or(REASON)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).map_err(|_| REASON)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| REASON)?;
    let public = public.as_ref().to_vec();
    Ok((pair, public))
}

/// Reads a key, and says nothing of what else stands in the file.
fn read(path: &Path) -> Result<DataKey, String> {
    let text = content(path, 66)?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, bytes.as_mut_slice())
        .map_err(|_| "it does not hold 64 hexadecimal digits and nothing else".to_owned())?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("it holds nothing but zeros".to_owned());
    }
    DataKey::try_from(bytes.as_slice()).map_err(|error| error.to_string())
}

#[cfg(unix)]
fn private(found: &fs::Metadata) -> Result<(), String> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(format!("its mode {mode:04o} lets others read it; 0600 does not"))
    }
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

/// Writes the context so that no two are written alike.
fn binding(context: &KeyContext) -> Vec<u8> {
    let mut binding = LABEL.to_vec();
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        binding.extend_from_slice(&(text.len() as u64).to_be_bytes());
        binding.extend_from_slice(text.as_bytes());
    }
    binding
}

#[async_trait]
impl KeyService for LocalFile {
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let mut wrapped = Vec::new();
        seal(&self.key, &binding(context), key.reveal().as_slice(), &mut wrapped)
            .map_err(|error| KeyError::Wrap { key: self.reference.clone(), reason: error.to_string() })?;
        Ok(WrappedKey { text: hex::encode(wrapped), version: None })
    }

    async fn unwrap(&self, wrapped: &str, context: &KeyContext) -> Result<DataKey, KeyError> {
        let refused = || KeyError::Refused(self.reference.clone());
        let wrapped = hex::decode(wrapped).map_err(|_| refused())?;
        let mut key = Zeroizing::new(Vec::with_capacity(32));
        open(&self.key, &binding(context), wrapped.as_slice(), &mut *key).map_err(|_| refused())?;
        DataKey::try_from(key.as_slice()).map_err(|_| refused())
    }

    fn limits(&self) -> GrantLimits {
        GrantLimits { one_bundle: false, expires: false, says: NO_GRANTS }
    }

    async fn grant(&self, _: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError> {
        Err(self.no_grants())
    }

    async fn grants(&self, _: &BundleId, _: &KeyContext) -> Result<Vec<FoundGrant>, KeyError> {
        Ok(Vec::new())
    }

    async fn revoke(&self, _: &GrantTerms<'_>) -> Result<Revoked, KeyError> {
        Err(self.no_grants())
    }
}

impl LocalFile {
    fn no_grants(&self) -> KeyError {
        KeyError::NoGrants { key: self.reference.clone(), reason: NO_GRANTS }
    }
}

#[async_trait]
impl SigningKey for LocalSigningKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError> {
        let failed = |_| KeyError::Sign {
            key: self.reference.clone(),
            reason: "the cryptography of this program failed".to_owned(),
        };
        let digest = Digest::import_less_safe(digest.as_bytes(), &SHA256).map_err(failed)?;
        Ok(self.key.sign_digest(&digest).map_err(failed)?.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::client;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn file(folder: &Path, name: &str) -> std::path::PathBuf {
        folder.join(format!("{name}.key"))
    }

    fn settings(folder: &Path) -> Settings {
        Settings { local_folder: Some(folder.to_owned()), local_allowed: true, ..Settings::default() }
    }

    fn write(folder: &Path, name: &str, content: &str, mode: u32) {
        write_to(&file(folder, name), content, mode);
    }

    fn write_to(path: &Path, content: &str, mode: u32) {
        fs::write(path, content).expect("write");
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("mode");
        #[cfg(not(unix))]
        let _ = mode;
    }

    fn reference(name: &str) -> KeyRef {
        format!("local-file://{name}").parse().expect("reference")
    }

    fn context(version: &str) -> KeyContext {
        KeyContext::from([
            ("type".to_owned(), "escrow".to_owned()),
            ("version".to_owned(), version.to_owned()),
        ])
    }

    #[tokio::test]
    async fn unwraps_what_it_wrapped_for_the_same_bundle_alone() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), "one", &format!("{KEY}\n"), 0o600);
        write(folder.path(), "two", &KEY.replace("00", "ff"), 0o400);
        let one = connect(&reference("one"), &settings(folder.path()), &client()).expect("one");
        let two = connect(&reference("two"), &settings(folder.path()), &client()).expect("two");
        let key = DataKey::generate().expect("random");
        let wrapped = one.wrap(&key, &context("1.0.0")).await.expect("wrap");
        assert!(!wrapped.text.contains(&hex::encode(key.reveal())));
        assert_ne!(one.wrap(&key, &context("1.0.0")).await.expect("wrap"), wrapped);
        let back = one.unwrap(&wrapped.text, &context("1.0.0")).await.expect("unwrap");
        assert_eq!(back.reveal(), key.reveal());

        let mut bad = Vec::new();
        bad.push(one.unwrap(&wrapped.text, &context("1.0.1")).await);
        bad.push(one.unwrap(&wrapped.text, &KeyContext::new()).await);
        bad.push(two.unwrap(&wrapped.text, &context("1.0.0")).await);
        for at in [0, 60, 120, wrapped.text.len() - 1] {
            let mut text = wrapped.text.clone().into_bytes();
            text[at] = if text[at] == b'0' { b'1' } else { b'0' };
            let text = String::from_utf8(text).expect("hex");
            bad.push(one.unwrap(&text, &context("1.0.0")).await);
        }
        for text in ["", "00", "not hex", &wrapped.text[..wrapped.text.len() - 2]] {
            bad.push(one.unwrap(text, &context("1.0.0")).await);
        }
        for result in bad {
            assert!(matches!(result.expect_err("unwrapped"), KeyError::Refused(_)));
        }
    }

    /// Two contexts that are the same letters in a row are two contexts.
    #[test]
    fn contexts_are_not_run_together() {
        let of = |pairs: &[(&str, &str)]| {
            binding(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_ne!(of(&[("ab", "c")]), of(&[("a", "bc")]));
        assert_ne!(of(&[("a", "b"), ("c", "d")]), of(&[("a", "bcd")]));
    }

    #[test]
    fn refuses_files_that_are_no_private_key() {
        let folder = tempfile::tempdir().expect("folder");
        let bad = [
            ("short", &KEY[1..], 0o600),
            ("long", &format!("{KEY}00"), 0o600),
            ("lines", &format!("{KEY}\n\n\n\n"), 0o600),
            ("blank", &format!(" {}", &KEY[1..]), 0o600),
            ("empty", "", 0o600),
            ("zeros", &"0".repeat(64), 0o600),
            ("pem", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGmdHCMHUGdYGDCDCSXB", 0o600),
            #[cfg(unix)]
            ("shared", KEY, 0o640),
            #[cfg(unix)]
            ("public", KEY, 0o604),
        ];
        for (name, content, mode) in bad {
            write(folder.path(), name, content, mode);
            let error = connect(&reference(name), &settings(folder.path()), &client()).err().expect(name);
            assert!(matches!(error, KeyError::File { .. }), "{error}");
            assert!(!error.to_string().contains("0001") && !error.to_string().contains("MC4C"), "{error}");
        }
        fs::create_dir(file(folder.path(), "folder")).expect("folder");
        for name in ["folder", "missing"] {
            assert!(connect(&reference(name), &settings(folder.path()), &client()).is_err());
        }
    }

    #[test]
    fn is_refused_where_it_is_not_allowed_or_not_to_be_found() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), "one", KEY, 0o600);
        let refused = Settings { local_allowed: false, ..settings(folder.path()) };
        assert!(matches!(connect(&reference("one"), &refused, &client()), Err(KeyError::LocalInCi(_))));
        let nowhere = Settings { local_allowed: true, ..Settings::default() };
        assert!(matches!(connect(&reference("one"), &nowhere, &client()), Err(KeyError::NoFolder(_))));
    }
    /// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgO/f8cUSG/y9SX0b1\nPTAdngqAnRh8tMeHbQzXurK2dKqhRANCAARlJCgjs5rsLHngU1CQL5mygMHwVTVH\n0H2tx01TaNcBXePXPiJnOk6MUmhd98D1WsgI6/Ger7202Jio+HGEsGlU\n-----END PRIVATE KEY-----\n";

    async fn signing(name: &str, folder: &Path) -> Result<Box<dyn SigningKey>, KeyError> {
        crate::connect_to_sign(&reference(name), &settings(folder), &client()).await
    }

    #[tokio::test]
    async fn signs_what_its_public_key_verifies() {
        let folder = tempfile::tempdir().expect("folder");
        write_to(&folder.path().join("one.pem"), PEM, 0o600);
        let key = signing("one", folder.path()).await.expect("key");
        let signature = key.sign(&Sha256::of("message")).await.expect("signature");
        let parsed = aws_lc_rs::signature::ParsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            key.public_key(),
        );
        let public = parsed.expect("public key");
        public.verify_sig(b"message", &signature).expect("it verifies");
        assert!(public.verify_sig(b"messagf", &signature).is_err());
    }

    #[tokio::test]
    async fn refuses_files_that_are_no_private_signing_key() {
        let folder = tempfile::tempdir().expect("folder");
        let bad = [
            ("empty", String::new(), 0o600),
            ("hex", KEY.to_owned(), 0o600),
            ("public", PEM.replace("PRIVATE", "PUBLIC"), 0o600),
            ("short", PEM.replacen("MIGH", "MIGI", 1), 0o600),
            ("two", format!("{PEM}{PEM}"), 0o600),
            ("long", format!("{PEM}{}", " ".repeat(MAX_PEM_BYTES)), 0o600),
            #[cfg(unix)]
            ("shared", PEM.to_owned(), 0o640),
        ];
        for (name, content, mode) in bad {
            write_to(&folder.path().join(format!("{name}.pem")), &content, mode);
            let error = signing(name, folder.path()).await.err().expect(name);
            assert!(matches!(error, KeyError::File { .. }), "{error}");
            assert!(!error.to_string().contains("MIGH"), "{error}");
        }
    }
}
