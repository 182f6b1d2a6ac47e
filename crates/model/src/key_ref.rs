//! References to keys in key services. A reference is never a key.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::text;

/// A key in a key service, such as `openbao://transit/acme`.
///
/// Each service has one grammar, checked from the first character to the last, and none of them is read as a
/// URL: a URL parser drops blanks and line ends, and turns `transit/../sys` into `sys`. No reference names a host:
/// where a service is stands in the configuration of whoever asks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyRef {
    provider: KeyProvider,
    path: String,
}

/// The key services, by the scheme of their references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyProvider {
    /// `openbao://<mount>/<key>`: OpenBao's transit engine.
    #[serde(rename = "openbao")]
    OpenBao,
    /// `aws-kms://arn:aws:kms:<region>:<account>:key/<id>`, or `alias/<name>` at its end.
    AwsKms,
    /// `gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>`, a version behind it or none.
    GcpKms,
    /// `azure-keyvault://<vault>/<key>/<version>`.
    #[serde(rename = "azure-keyvault")]
    AzureKeyVault,
    /// `local-file://<name>`: a file in the key folder of this machine, for trials and tests.
    LocalFile,
}

/// Why a text is not a [`KeyRef`]. Never repeats the text: it may be a key that was pasted by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefError {
    /// It has no scheme that is known.
    #[error(
        "expected a key reference that starts with openbao://, aws-kms://, gcp-kms://, azure-keyvault:// or local-file://"
    )]
    NotReference,
    /// The part behind the scheme is not in the service's grammar.
    #[error("expected a key reference of the form {0}")]
    Form(&'static str),
    /// `openbao://user:password@...`
    #[error("a key reference may not carry a username or password")]
    Userinfo,
    /// `?...` or `#...`
    #[error("a key reference may not carry a query or a fragment")]
    Query,
    /// A part of it looks like a key.
    #[error("this looks like a key or a token itself, where the name of a key is expected")]
    KeyMaterial,
}

impl KeyProvider {
    /// Every key service.
    pub const ALL: [Self; 5] =
        [Self::OpenBao, Self::AwsKms, Self::GcpKms, Self::AzureKeyVault, Self::LocalFile];

    /// Returns the scheme of its references.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::OpenBao => "openbao",
            Self::AwsKms => "aws-kms",
            Self::GcpKms => "gcp-kms",
            Self::AzureKeyVault => "azure-keyvault",
            Self::LocalFile => "local-file",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::OpenBao => "openbao://<mount>/<key>",
            Self::AwsKms => {
                "aws-kms://arn:aws:kms:<region>:<account>:key/<id>, or with alias/<name> at its end"
            }
            Self::GcpKms => {
                "gcp-kms://projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>, or with /cryptoKeyVersions/<n> behind it"
            }
            Self::AzureKeyVault => "azure-keyvault://<vault>/<key>/<version of 32 hexadecimal digits>",
            Self::LocalFile => "local-file://<name>",
        }
    }

    fn takes(self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        match (self, parts.as_slice()) {
            (Self::OpenBao, [mount, key]) => is_word(mount, "_-.", 64) && is_word(key, "_-.", 64),
            (Self::AwsKms, _) => is_aws(path),
            (
                Self::GcpKms,
                ["projects", project, "locations", location, "keyRings", ring, "cryptoKeys", key, rest @ ..],
            ) => {
                let version = match rest {
                    [] => true,
                    ["cryptoKeyVersions", number] => {
                        is(number, 1, 10, |c| c.is_ascii_digit()) && !number.starts_with('0')
                    }
                    _ => false,
                };
                let id = |text: &str| is(text, 1, 63, |c| c.is_ascii_alphanumeric() || "_-".contains(c));
                version && is_project(project) && is_lower_word(location, 1, 63) && id(ring) && id(key)
            }
            (Self::AzureKeyVault, [vault, key, version]) => {
                is_lower_word(vault, 3, 24)
                    && !vault.contains("--")
                    && is(key, 1, 127, |c| c.is_ascii_alphanumeric() || c == '-')
                    && is(version, 32, 32, is_lower_hex)
            }
            (Self::LocalFile, [name]) => is_word(name, "_-.", 64) && !name.contains(".."),
            _ => false,
        }
    }
}

impl KeyRef {
    /// Returns the service.
    pub fn provider(&self) -> KeyProvider {
        self.provider
    }

    /// Returns whether both name one key, whatever version of it: what is granted on the one holds for the other.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.provider == other.provider && self.key_path() == other.key_path()
    }

    /// Returns the path without a version.
    fn key_path(&self) -> &str {
        let cut = match self.provider {
            KeyProvider::GcpKms => self.path.find("/cryptoKeyVersions/"),
            KeyProvider::AzureKeyVault => self.path.rfind('/'),
            KeyProvider::OpenBao | KeyProvider::AwsKms | KeyProvider::LocalFile => None,
        };
        &self.path[..cut.unwrap_or(self.path.len())]
    }

    /// Returns what stands behind the scheme.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for KeyRef {
    type Err = KeyRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = KeyProvider::ALL.into_iter().find_map(|provider| {
            Some((provider, text.strip_prefix(provider.scheme())?.strip_prefix("://")?))
        });
        let Some((provider, path)) = known else {
            let raw = looks_like_key_material(text);
            return Err(if raw { KeyRefError::KeyMaterial } else { KeyRefError::NotReference });
        };
        if path.contains('@') {
            return Err(KeyRefError::Userinfo);
        }
        if path.contains(['?', '#']) {
            return Err(KeyRefError::Query);
        }
        // An ARN's parts are apart by colons. A key in base64 may hold one slash, and so look like mount and name.
        let whole = provider == KeyProvider::OpenBao && looks_like_key_material(path);
        if whole || path.split(['/', ':']).any(looks_like_key_material) {
            return Err(KeyRefError::KeyMaterial);
        }
        if !provider.takes(path) {
            return Err(KeyRefError::Form(provider.form()));
        }
        Ok(Self { provider, path: path.to_owned() })
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider.scheme(), self.path)
    }
}

text!(
    KeyRef,
    KeyRefError,
    "description": "A key in a key service. Never a key itself.",
    "pattern": "^(?:openbao|aws-kms|gcp-kms|azure-keyvault|local-file)://[A-Za-z0-9:/._-]+$"
);

/// Returns whether `text` looks like a key, a token or a password of a machine, and so is to be repeated nowhere.
///
/// Attack: whoever pastes a key where its name belongs would find it in manifests, logs and evidence.
pub fn looks_like_key_material(text: &str) -> bool {
    const STARTS: &[&str] =
        &["AGE-SECRET-KEY-", "hvs.", "hvb.", "hvr.", "eyJ", "ghp_", "glpat-", "npm_", "xox"];
    let bare = text.trim().trim_end_matches('=');
    let (mut upper, mut lower, mut digit) = (false, false, false);
    for c in bare.chars() {
        upper |= c.is_ascii_uppercase();
        lower |= c.is_ascii_lowercase();
        digit |= c.is_ascii_digit();
    }
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    // Sixteen bytes are an identifier as often as a key: the version of a key in Azure is written so.
    let hex = is(bare, 64, 128, |c| c.is_ascii_hexdigit());
    // 32 bytes in base64 have 43 digits. A name of that length in words has no capitals and digits among them.
    let random = upper && lower && digit && bare.len() >= 40 && bare.chars().all(base64);
    let vault = bare.strip_prefix("s.").is_some_and(|rest| is(rest, 24, 24, |c| c.is_ascii_alphanumeric()));
    let aws = ["AKIA", "ASIA"].iter().any(|start| {
        bare.strip_prefix(start)
            .is_some_and(|rest| is(rest, 12, 60, |c| c.is_ascii_uppercase() || c.is_ascii_digit()))
    });
    hex || random
        || vault
        || aws
        || text.contains("-----BEGIN")
        || text.contains("\"k\"")
        || STARTS.iter().any(|start| bare.starts_with(start))
}

/// Returns whether a path, or a part of it, looks like a key or a token.
///
/// Attack: a token pasted where a path belongs. A key in base64 may hold slashes, and so look like folders.
pub fn path_looks_like_key_material(path: &str) -> bool {
    path.ends_with('=') && looks_like_key_material(path)
        || path.split(['/', '\\', ':']).any(looks_like_key_material)
}

fn is(text: &str, shortest: usize, longest: usize, fits: impl Fn(char) -> bool) -> bool {
    (shortest..=longest).contains(&text.len()) && text.chars().all(fits)
}

fn is_lower_hex(c: char) -> bool {
    c.is_ascii_digit() || ('a'..='f').contains(&c)
}

/// A word that starts and ends with a letter or digit.
fn is_word(text: &str, between: &str, longest: usize) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is(text, 1, longest, |c| c.is_ascii_alphanumeric() || between.contains(c))
        && ends(text.chars().next())
        && ends(text.chars().last())
        && !text.contains("..")
}

/// A word of lower-case letters, digits and hyphens that starts with a letter.
fn is_lower_word(text: &str, shortest: usize, longest: usize) -> bool {
    is(text, shortest, longest, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

/// A project's id, of a domain or none: `acme`, `example.com:acme`.
fn is_project(text: &str) -> bool {
    let id = match text.split_once(':') {
        Some((domain, id)) if domain.split('.').all(|label| is_word(label, "-", 63)) => id,
        Some(_) => return false,
        None => text,
    };
    is_lower_word(id, 6, 30)
}

fn is_aws(path: &str) -> bool {
    let parts: Vec<&str> = path.split(':').collect();
    let ["arn", "aws", "kms", region, account, resource] = parts.as_slice() else { return false };
    let key = match resource.split_once('/') {
        Some(("key", id)) => {
            // One of several regions has a name of its own, the same in each.
            let multi = id.strip_prefix("mrk-").is_some_and(|id| is(id, 32, 32, is_lower_hex));
            let uuid = |(at, c)| if [8, 13, 18, 23].contains(&at) { c == '-' } else { is_lower_hex(c) };
            multi || id.len() == 36 && id.char_indices().all(uuid)
        }
        Some(("alias", name)) => {
            is(name, 1, 250, |c| c.is_ascii_alphanumeric() || "/_-".contains(c))
                && name.split('/').all(|part| !part.is_empty())
        }
        _ => false,
    };
    key && is_lower_word(region, 5, 30) && is(account, 12, 12, |c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, KeyProvider)] = &[
        ("openbao://transit/acme", KeyProvider::OpenBao),
        ("openbao://team_a.transit/acme-core.v2", KeyProvider::OpenBao),
        (
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            KeyProvider::AwsKms,
        ),
        (
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            KeyProvider::AwsKms,
        ),
        ("aws-kms://arn:aws:kms:us-east-1:123456789012:alias/acme/core", KeyProvider::AwsKms),
        (
            "gcp-kms://projects/acme-prod/locations/europe-west1/keyRings/r_1/cryptoKeys/K",
            KeyProvider::GcpKms,
        ),
        (
            "gcp-kms://projects/example.com:acme-prod/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/12",
            KeyProvider::GcpKms,
        ),
        ("azure-keyvault://acme-vault/core/0123456789abcdef0123456789abcdef", KeyProvider::AzureKeyVault),
        ("local-file://acme-demo", KeyProvider::LocalFile),
    ];

    #[test]
    fn reads_one_form_for_each_service() {
        for (text, provider) in GOOD {
            let reference: KeyRef = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.provider(), *provider);
            assert_eq!(reference.to_string(), *text);
            let json = serde_json::to_string(&reference).expect("json");
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<KeyRef>(&json).expect("json"), reference);
        }
        for provider in KeyProvider::ALL {
            assert!(GOOD.iter().any(|(_, tested)| *tested == provider), "{}", provider.scheme());
            let json = serde_json::to_string(&provider).expect("json");
            assert_eq!(json, format!("\"{}\"", provider.scheme()), "one name everywhere");
        }
    }

    #[test]
    fn versions_of_one_key_are_one_key() {
        let key = |text: &str| text.parse::<KeyRef>().expect("reference");
        let google = "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys";
        let (first, second) = ("0123456789abcdef0123456789abcdef", "1123456789abcdef0123456789abcdef");
        for (one, other, same) in [
            (format!("{google}/k"), format!("{google}/k/cryptoKeyVersions/2"), true),
            (format!("{google}/k/cryptoKeyVersions/1"), format!("{google}/k/cryptoKeyVersions/2"), true),
            (format!("{google}/k"), format!("{google}/k2"), false),
            (format!("azure-keyvault://acme/k/{first}"), format!("azure-keyvault://acme/k/{second}"), true),
            (format!("azure-keyvault://acme/k/{first}"), format!("azure-keyvault://acme/j/{first}"), false),
            ("openbao://transit/k".to_owned(), "openbao://transit/j".to_owned(), false),
            ("openbao://transit/k".to_owned(), "openbao://transit/k".to_owned(), true),
        ] {
            assert_eq!(key(&one).is_same_key(&key(&other)), same, "{one} {other}");
        }
    }

    #[test]
    fn refuses_whatever_is_a_little_different() {
        for (good, _) in GOOD {
            let changed = [
                format!(" {good}"),
                format!("{good}\n"),
                format!("{good}/"),
                format!("{good}?token=x"),
                format!("{good}#x"),
                format!("{good}%00"),
                format!("{good}\u{0}"),
                format!("{good}é"),
                good.to_uppercase(),
                good.replace("://", ":"),
                good.replace("://", ":///"),
                good.replace("://", "://user:password@"),
                good.replace("://", "://../"),
                good.replace("://", "://%2e%2e/"),
                good.replace("://", "://127.0.0.1:8200/"),
            ];
            for bad in changed {
                assert!(bad.parse::<KeyRef>().is_err(), "{bad}");
            }
        }
        for bad in [
            "",
            "://",
            "openbao://",
            "openbao://transit",
            "openbao://transit/keys/acme",
            "openbao://h/transit/../../sys/policies",
            "openbao://../sys",
            "openbao://transit/..",
            "openbao://transit/a..b",
            "openbao://transit/.hidden",
            "openbao://https://bao.example/transit",
            "vault://transit/acme",
            "file:///etc/passwd",
            "local-file:///etc/passwd",
            "local-file://../acme",
            "local-file://a/b",
            "local-file://C:\\key",
            "aws-kms://arn:aws:kms:eu-central-1:12345678901:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "aws-kms://arn:aws:s3:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd",
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ag",
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd12ab34cd56ef1234567890ab",
            "aws-kms://arn:aws:kms:eu-central-1:123456789012:alias/a//b",
            "aws-kms://arn:aws:kms:evil.example/:123456789012:alias/a",
            "gcp-kms://projects/acme-prod/locations/global/keyRings/r",
            "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/0",
            "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/../cryptoKeys/k",
            "azure-keyvault://v.vault.azure.net@evil.com/k/0123456789abcdef0123456789abcdef",
            "azure-keyvault://v.vault.azure.net/k/0123456789abcdef0123456789abcdef",
            "azure-keyvault://ac/core/0123456789abcdef0123456789abcdef",
            "azure-keyvault://acme--vault/core/0123456789abcdef0123456789abcdef",
            "azure-keyvault://acme-vault/core/0123456789abcdef",
        ] {
            assert!(bad.parse::<KeyRef>().is_err(), "{bad}");
        }
    }

    /// Keys as people paste them. None of them may be accepted, and none repeated.
    const MATERIAL: &[&str] = &[
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
        "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
        "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k",
        "-----BEGIN PRIVATE KEY-----",
        "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
        "{\"kty\":\"oct\",\"k\":\"AAEC\"}",
        "AKIAIOSFODNN7EXAMPLE",
        "hvs.CAESIJlU02LQZq",
        "s.abcdefghijklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG_HACGpVUMN_a9IV7pAx_Zmeo",
    ];

    #[test]
    fn refuses_a_key_in_the_place_of_its_name_and_does_not_repeat_it() {
        for material in MATERIAL {
            assert!(looks_like_key_material(material), "{material}");
            for text in [
                (*material).to_owned(),
                format!("openbao://transit/{material}"),
                format!("local-file://{material}"),
                format!("openbao://user:{material}@transit/acme"),
                format!("openbao://transit/acme?key={material}"),
            ] {
                let error = text.parse::<KeyRef>().err().unwrap_or_else(|| panic!("{text}")).to_string();
                assert!(!error.contains(&material[..8]), "{error}");
            }
        }
        for name in [
            "acme",
            "acme-production-delivery-key-for-customer-xy",
            "core-2026",
            "projects",
            "12345678-1234-1234-1234-123456789012",
        ] {
            assert!(!looks_like_key_material(name), "{name}");
        }
    }
}
