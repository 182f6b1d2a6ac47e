//! Times as they stand in documents: RFC 3339, UTC, whole seconds.

use jiff::{SignedDuration, Timestamp};

/// Returns `time` without its fraction of a second.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    // A timestamp's seconds are always in the range that `from_second` takes.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Returns the moment `seconds` after `time`, at most the last one that can be written.
pub fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Returns `time` as seconds since 1970, as JWT claims count them (RFC 7519 section 2, NumericDate).
pub fn numeric_date(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}
