//! When a request is sent again, and after what wait.

use std::time::{Duration, Instant};

use jiff::{Timestamp, fmt::rfc2822};

/// Longest wait before the second attempt; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait that we choose ourselves.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often and for how long a request is sent again when it failed for a passing reason.
///
/// Passing are: no connection, a reset, a timeout, 408, 429 and 5xx. Whoever asks for more than one attempt of a
/// POST or PUT says thereby that the server does it only once (an `Idempotency-Key`, or content it recognises).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts in all; 0 counts as 1.
    pub attempts: u32,
    /// How long all attempts and the waits between them may take together. Never exceeded.
    pub budget: Duration,
}

impl Retry {
    /// One attempt, bounded by its own timeout alone.
    pub fn none() -> Self {
        Self { attempts: 1, budget: Duration::MAX }
    }

    /// Enough to get through a restart or a short overload: seven attempts within a minute.
    pub fn standard() -> Self {
        Self { attempts: 7, budget: Duration::from_secs(60) }
    }
}

/// The attempts of one request as they go by.
pub(crate) struct Pace {
    retry: Retry,
    started: Instant,
    pub(crate) attempts: u32,
}

impl Pace {
    pub(crate) fn start(retry: Retry) -> Self {
        Self { retry, started: Instant::now(), attempts: 0 }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts an attempt and returns how long it may take, at most `timeout`.
    pub(crate) fn attempt(&mut self, timeout: Duration) -> Duration {
        self.attempts += 1;
        timeout.min(self.remaining())
    }

    /// Returns how long to wait before the next attempt, or `None` when this was the last.
    ///
    /// The wait is `asked` by the server, or random up to a bound that doubles (full jitter), whichever is longer.
    pub(crate) fn wait(&self, asked: Option<Duration>) -> Option<Duration> {
        if self.attempts >= self.retry.attempts {
            return None;
        }
        let bound = FIRST_WAIT.saturating_mul(1 << (self.attempts - 1).min(16)).min(LONGEST_WAIT);
        let wait = bound.mul_f64(random_fraction()).max(asked.unwrap_or_default());
        (wait < self.remaining()).then_some(wait)
    }

    fn remaining(&self) -> Duration {
        self.retry.budget.saturating_sub(self.elapsed())
    }
}

/// Returns a number from 0 up to 1; without randomness 1, which only costs time.
fn random_fraction() -> f64 {
    let bits = getrandom::u64().unwrap_or(u64::MAX) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

/// Returns whether a request that got `status` may fare better later.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Reads `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
///
/// A date is compared with the answer's own `Date` where it has one, so that a wrong clock here does no harm.
pub(crate) fn retry_after(value: Option<&str>, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = http_date(value)?;
    let from = date.and_then(http_date).unwrap_or(now);
    Some(Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text.trim()).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().expect("time");
        let read = |value| retry_after(Some(value), None, now);
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        for bad in ["", "-1", "1.5", "soon", "1e9", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(retry_after(None, None, now), None);
        let date = Some("Sun, 06 Nov 1994 08:49:27 GMT");
        let asked = retry_after(Some("Sun, 06 Nov 1994 08:49:37 GMT"), date, now);
        assert_eq!(asked, Some(Duration::from_secs(10)));
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(is_transient(status), "{status}");
        }
        for status in [200, 201, 204, 301, 400, 401, 403, 404, 409, 410, 413, 422, 425] {
            assert!(!is_transient(status), "{status}");
        }
    }

    #[test]
    fn waits_stay_inside_the_budget_and_the_count() {
        let mut pace = Pace::start(Retry { attempts: 2, budget: Duration::from_secs(10) });
        assert_eq!(pace.attempt(Duration::from_secs(3)), Duration::from_secs(3));
        assert!(pace.wait(None).is_some_and(|wait| wait <= FIRST_WAIT));
        assert!(pace.wait(Some(Duration::from_secs(5))).is_some_and(|wait| wait == Duration::from_secs(5)));
        assert_eq!(pace.wait(Some(Duration::from_secs(11))), None);
        assert_eq!(pace.wait(Some(Duration::from_secs(u64::MAX))), None);
        assert!(pace.attempt(Duration::from_secs(30)) <= Duration::from_secs(10));
        assert_eq!(pace.wait(None), None);
    }

    #[test]
    fn waits_are_random_and_bounded() {
        let mut pace = Pace::start(Retry { attempts: u32::MAX, budget: Duration::MAX });
        pace.attempts = 3;
        let waits: Vec<_> = (0..64).filter_map(|_| pace.wait(None)).collect();
        assert!(waits.iter().all(|wait| *wait <= FIRST_WAIT * 4));
        assert!(waits.iter().any(|wait| *wait > FIRST_WAIT), "{waits:?}");
        pace.attempts = u32::MAX - 1;
        assert!(pace.wait(None).is_some_and(|wait| wait <= LONGEST_WAIT));
    }
}
