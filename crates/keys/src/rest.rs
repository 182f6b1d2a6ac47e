//! One request to a key service: bounded, repeated where that can help, and an error that repeats no credential.

use std::{
    fs,
    future::Future,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_bundle::DataKey;
use protected_http::{Request, Response, Retry};
use protected_model::{key_ref::KeyRef, secret::AccessToken};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::KeyError;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);
/// What is asked twice does no harm.
const RETRY: Retry = Retry { attempts: 4, budget: Duration::from_secs(30) };
/// The largest answer that is read: a key of a hundred versions has some ten kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The longest text of a service that is repeated, in characters.
const LONGEST_TEXT: usize = 200;
/// The largest file with a credential that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How a service says what it does not like: the text in the answer, if there is any.
pub(crate) type Said = fn(&Response) -> Option<String>;

/// A token, and how long it lasts where that is told.
pub(crate) type Lent = (AccessToken, Option<Duration>);

/// The login of a connection: there once it is needed, and anew before it ends. A build may take longer than its token
/// lasts, between reading a key that signs and signing.
#[derive(Default)]
pub(crate) struct Login(Mutex<Option<(AccessToken, Option<Instant>)>>);

impl Login {
    /// Returns a token that lasts a while yet, by `log_in` where there is none.
    ///
    /// # Errors
    /// When logging in fails.
    pub(crate) async fn token(
        &self,
        log_in: impl Future<Output = Result<Lent, KeyError>>,
    ) -> Result<AccessToken, KeyError> {
        let mut held = self.0.lock().await;
        if let Some((token, until)) = held.as_ref()
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(token.clone());
        }
        let asked = Instant::now();
        let (token, lasts) = log_in.await?;
        // A tenth before its end, so that none ends on its way. One that is said to outlast this clock is kept.
        let until = lasts.and_then(|lasts| asked.checked_add(lasts - lasts / 10));
        Ok(held.insert((token, until)).0.clone())
    }
}

/// Sends a request, and returns the answer of a service that did as asked.
///
/// A credential among `secrets` is never repeated, though the service may.
///
/// # Errors
/// When the service cannot be asked, or says no.
pub(crate) async fn answer(
    key: &KeyRef,
    request: Request,
    said: Said,
    secrets: &[&str],
) -> Result<Response, KeyError> {
    succeeded(key, sent(key, request).await?, said, secrets)
}

/// Sends a request, and returns the answer, whatever it is.
///
/// # Errors
/// When the service cannot be asked.
pub(crate) async fn sent(key: &KeyRef, request: Request) -> Result<Response, KeyError> {
    let request = request.timeout(ATTEMPT).retry(RETRY).max_bytes(MAX_BYTES);
    request.send().await.map_err(|source| failed(key, source))
}

/// Returns the answer of a service that did as asked.
///
/// # Errors
/// When the service says no.
pub(crate) fn succeeded(
    key: &KeyRef,
    answer: Response,
    said: Said,
    secrets: &[&str],
) -> Result<Response, KeyError> {
    if answer.is_success() {
        return Ok(answer);
    }
    let text = said(&answer).filter(|text| !secrets.iter().any(|secret| text.contains(secret)));
    Err(KeyError::Service {
        key: key.clone(),
        request: answer.request().to_string(),
        status: answer.status,
        message: text.map(|text| readable(&text)).filter(|text| !text.is_empty()),
    })
}

/// Sends a request, and returns what the service answers as JSON.
///
/// # Errors
/// As [`answer`], and when the answer is another.
pub(crate) async fn json<T: DeserializeOwned>(
    key: &KeyRef,
    request: Request,
    said: Said,
    secrets: &[&str],
) -> Result<T, KeyError> {
    answer(key, request, said, secrets).await?.json().map_err(|source| failed(key, source))
}

/// Says that a service could not be asked, or did not answer as it should.
pub(crate) fn failed(key: &KeyRef, source: protected_http::HttpError) -> KeyError {
    KeyError::Http { key: key.clone(), source: Box::new(source) }
}

/// Returns a foreign text as one short line.
pub(crate) fn readable(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
    text.trim().to_owned()
}

/// Reads one thing in PEM (RFC 7468), with nothing beside it.
pub(crate) fn from_pem(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let inside = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let inside = inside.strip_suffix(&format!("-----END {label}-----"))?;
    let inside: Zeroizing<String> = Zeroizing::new(inside.split_ascii_whitespace().collect());
    STANDARD.decode(inside.as_bytes()).ok().map(Zeroizing::new)
}

/// Returns a data key as a service unwrapped it.
///
/// Attack: a service that answers with anything at all, or with nothing, has the bundle opened with a key that is
/// easily guessed.
pub(crate) fn data_key(key: &KeyRef, bytes: &[u8]) -> Result<DataKey, KeyError> {
    let refuse = |reason: String| KeyError::Answer { key: key.clone(), reason };
    let data_key = DataKey::try_from(bytes).map_err(|error| refuse(error.to_string()))?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(refuse("the data key is nothing but zeros".to_owned()));
    }
    Ok(data_key)
}

/// Returns what a service said as the end of a sentence.
pub(crate) fn repeated(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// Reads a file with a credential, whole or not at all.
pub(crate) fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(content)
}

/// Reads a file with a token, without the blanks around it.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let content = file(path)?;
    let text = std::str::from_utf8(&content).map_err(|_| "it is not text".to_owned())?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a service that says any number of seconds at all.
    #[tokio::test]
    async fn a_login_lasts_as_long_as_it_is_said_to() {
        for (lasts, logins) in [
            (Some(Duration::ZERO), 3),
            (Some(Duration::from_secs(300)), 1),
            (Some(Duration::MAX), 1),
            (None, 1),
        ] {
            let (login, asked) = (Login::default(), std::cell::Cell::new(0));
            for _ in 0..3 {
                let log_in = async {
                    asked.set(asked.get() + 1);
                    Ok((AccessToken::new("token"), lasts))
                };
                login.token(log_in).await.expect("token");
            }
            assert_eq!(asked.get(), logins, "{lasts:?}");
        }
    }

    #[test]
    fn only_a_whole_data_key_is_one() {
        let key = "openbao://transit/acme".parse().expect("reference");
        assert_eq!(data_key(&key, &[7; 32]).expect("key").reveal(), &[7; 32]);
        for bad in [&[][..], &[7; 16], &[7; 31], &[7; 33], &[0; 32]] {
            assert!(matches!(data_key(&key, bad), Err(KeyError::Answer { .. })), "{}", bad.len());
        }
    }

    #[test]
    fn pem_is_one_thing_with_its_own_label() {
        let pem = "-----BEGIN PUBLIC KEY-----\nAQID\nBA==\n-----END PUBLIC KEY-----\n";
        assert_eq!(from_pem("PUBLIC KEY", pem).expect("bytes").as_slice(), [1, 2, 3, 4]);
        assert!(from_pem("PRIVATE KEY", pem).is_none());
        for bad in
            [&pem[1..], &pem[..pem.len() - 2], &format!("{pem}{pem}"), &pem.replace("AQID", "A?ID"), ""]
        {
            assert!(from_pem("PUBLIC KEY", bad).is_none(), "{bad}");
        }
    }

    /// Attack: a token that is cut off is another token.
    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("token");
        fs::write(&path, " token\n").expect("write");
        assert_eq!(text(&path).expect("token"), "token");
        for (content, reason) in
            [(vec![b'a'; 65_537], "it is longer than 65536 bytes"), (vec![0xff], "it is not text")]
        {
            fs::write(&path, content).expect("write");
            assert_eq!(text(&path).expect_err("refused"), reason);
        }
        assert_eq!(text(folder.path()).expect_err("a folder"), "it is no file");
    }
}
