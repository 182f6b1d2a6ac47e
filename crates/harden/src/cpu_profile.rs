//! A CPU profile as V8 writes it (`.cpuprofile`): which functions take the time.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::SourcePlace;

/// The share of the package's own time that the functions returned took, in hundredths.
const SHARE_PERCENT: u128 = 90;

/// Why a CPU profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CpuProfileError {
    /// Something else.
    #[error("it is not a CPU profile of V8: {0}")]
    Json(#[from] serde_json::Error),
    /// Two nodes with one id.
    #[error("it is not a CPU profile of V8: two of its nodes have the id {0}")]
    SameId(u64),
    /// A sample of nothing.
    #[error("it is not a CPU profile of V8: a sample is of node {0}, and there is none")]
    UnknownNode(u64),
    /// Times that belong to no sample.
    #[error("it is not a CPU profile of V8: it has {samples} samples and {deltas} time deltas")]
    Lengths {
        /// How many samples.
        samples: usize,
        /// How many times.
        deltas: usize,
    },
    /// Neither samples nor counts.
    #[error("it is not a CPU profile of V8: it has neither `samples` with `timeDeltas`, nor any `hitCount`")]
    NoTimes,
    /// A function that stands nowhere.
    #[error(
        "it is not a CPU profile of V8: a function of `{path}` is said to stand at line {line}, column {column}"
    )]
    Place {
        /// The file.
        path: String,
        /// From 0.
        line: i64,
        /// From 0.
        column: i64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    nodes: Vec<Node>,
    samples: Option<Vec<u64>>,
    time_deltas: Option<Vec<i64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: u64,
    call_frame: CallFrame,
    hit_count: Option<u64>,
}

/// Line and column count from 0, and are -1 for what is no function.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    url: String,
    line_number: i64,
    column_number: i64,
}

/// Returns where the functions stand that took nine tenths of the time that a package's files took themselves, the
/// longest first.
///
/// `file_of` returns the package's path of what the profile calls a file, or `None` where it is none of the package.
/// V8 says where a function's parameters start: the function is the innermost one around that place.
///
/// # Errors
/// When `json` is no CPU profile.
pub fn hot_functions(
    json: &[u8],
    file_of: impl Fn(&str) -> Option<String>,
) -> Result<Vec<SourcePlace>, CpuProfileError> {
    let profile: Profile = serde_json::from_slice(json)?;
    let times = times(&profile)?;
    let mut files: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut by_place: BTreeMap<SourcePlace, u128> = BTreeMap::new();
    for node in &profile.nodes {
        let CallFrame { url, line_number, column_number } = &node.call_frame;
        let Some(path) = files.entry(url).or_insert_with(|| file_of(url)).clone() else { continue };
        let place = |number: i64| u32::try_from(number).ok().and_then(|number| number.checked_add(1));
        let (Some(line), Some(column)) = (place(*line_number), place(*column_number)) else {
            return Err(CpuProfileError::Place { path, line: *line_number, column: *column_number });
        };
        let time = times.get(&node.id).copied().unwrap_or_default();
        *by_place.entry(SourcePlace { path, line, column }).or_default() += time;
    }
    let total: u128 = by_place.values().sum();
    let mut longest: Vec<_> = by_place.into_iter().filter(|(_, time)| *time > 0).collect();
    // Those of equal time stay in the order of their places.
    longest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let mut taken = 0;
    let mut hot = Vec::new();
    for (place, time) in longest {
        if taken * 100 >= total * SHARE_PERCENT {
            break;
        }
        taken += time;
        hot.push(place);
    }
    Ok(hot)
}

/// Returns how long each node ran itself: in microseconds where the profile has times, else in samples.
fn times(profile: &Profile) -> Result<BTreeMap<u64, u128>, CpuProfileError> {
    let mut times: BTreeMap<u64, u128> = BTreeMap::new();
    for node in &profile.nodes {
        if times.insert(node.id, 0).is_some() {
            return Err(CpuProfileError::SameId(node.id));
        }
    }
    let (Some(samples), Some(deltas)) = (&profile.samples, &profile.time_deltas) else {
        if profile.nodes.iter().all(|node| node.hit_count.is_none()) {
            return Err(CpuProfileError::NoTimes);
        }
        return Ok(profile
            .nodes
            .iter()
            .map(|node| (node.id, u128::from(node.hit_count.unwrap_or_default())))
            .collect());
    };
    if samples.len() != deltas.len() {
        return Err(CpuProfileError::Lengths { samples: samples.len(), deltas: deltas.len() });
    }
    // A delta is the time since the sample before, which is how long that one lasted. V8 writes negative ones where
    // two threads' clocks crossed.
    let lasted = deltas.iter().skip(1).map(|delta| u128::try_from(*delta).unwrap_or_default()).chain([0]);
    for (sample, lasted) in samples.iter().zip(lasted) {
        *times.get_mut(sample).ok_or(CpuProfileError::UnknownNode(*sample))? += lasted;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(id: u64, url: &str, line: i64, column: i64) -> Value {
        json!({
            "id": id,
            "callFrame": {"functionName": "f", "scriptId": "1", "url": url, "lineNumber": line, "columnNumber": column},
            "hitCount": 1,
            "children": [],
        })
    }

    fn hot(profile: &Value) -> Result<Vec<(String, u32, u32)>, CpuProfileError> {
        let json = serde_json::to_vec(profile).expect("JSON");
        let file_of = |url: &str| url.strip_prefix("file:///p/").map(str::to_owned);
        let found = hot_functions(&json, file_of)?;
        Ok(found.into_iter().map(|place| (place.path, place.line, place.column)).collect())
    }

    fn profile() -> Value {
        json!({
            "nodes": [
                node(1, "", -1, -1),
                node(2, "file:///p/a.js", 4, 10),
                node(3, "file:///p/b.js", 0, 0),
                node(4, "node:internal/timers", 3, 3),
                // The same function, called from elsewhere.
                node(5, "file:///p/a.js", 4, 10),
                node(6, "file:///p/c.js", 7, 1),
            ],
            "startTime": 0,
            "endTime": 1000,
            "samples": [1, 2, 4, 5, 3, 6, 2, 1],
            "timeDeltas": [5, 9000, 400, 90000, 500, 90, 9, -7],
        })
    }

    #[test]
    fn the_functions_that_take_nine_tenths_of_the_package_s_time() {
        // a.js: 400 + 500, b.js: 90, c.js: 9, and the time after the last sample of a.js is negative.
        let found = hot(&profile()).expect("profile");
        assert_eq!(found, [("a.js".to_owned(), 5, 11)]);
        let mut even = profile();
        even["timeDeltas"] = json!([5, 9000, 400, 90000, 400, 700, 9, 1]);
        let found = hot(&even).expect("profile");
        assert_eq!(found, [("a.js".to_owned(), 5, 11), ("b.js".to_owned(), 1, 1)]);
    }

    #[test]
    fn hits_are_counted_where_there_are_no_times() {
        let mut counted = profile();
        let members = counted.as_object_mut().expect("object");
        members.remove("samples");
        members.remove("timeDeltas");
        counted["nodes"][5]["hitCount"] = json!(70);
        counted["nodes"][2]["hitCount"] = json!(0);
        assert_eq!(hot(&counted).expect("profile"), [("c.js".to_owned(), 8, 2)]);
    }

    #[test]
    fn nothing_of_the_package_is_nothing() {
        assert_eq!(hot(&json!({"nodes": [], "samples": [], "timeDeltas": []})).expect("profile"), []);
        let mut idle = profile();
        idle["timeDeltas"] = json!([0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hot(&idle).expect("profile"), []);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut profile = profile();
            change(&mut profile);
            hot(&profile).expect_err("refused").to_string()
        };
        for json in ["", "{", "[]", "{}", "null", "{\"nodes\": 1}", "{\"nodes\": [{}]}", "\u{feff}{}"] {
            assert!(hot_functions(json.as_bytes(), |_| None).is_err(), "{json}");
        }
        assert!(broken(&|profile| profile["nodes"][1]["id"] = json!(1)).contains("the id 1"));
        assert!(broken(&|profile| profile["nodes"][1]["id"] = json!(-1)).contains("not a CPU profile"));
        assert!(broken(&|profile| profile["samples"][0] = json!(77)).contains("node 77"));
        assert!(broken(&|profile| profile["samples"][0] = json!("1")).contains("not a CPU profile"));
        assert!(broken(&|profile| profile["timeDeltas"] = json!([1])).contains("8 samples and 1 time"));
        assert!(broken(&|profile| profile["timeDeltas"][0] = json!(1.5)).contains("not a CPU profile"));
        let nowhere = broken(&|profile| profile["nodes"][1]["callFrame"]["lineNumber"] = json!(-1));
        assert!(nowhere.contains("`a.js` is said to stand at line -1"), "{nowhere}");
        let far = broken(&|profile| profile["nodes"][1]["callFrame"]["columnNumber"] = json!(4294967295_i64));
        assert!(far.contains("column 4294967295"), "{far}");
        let timeless =
            json!({"nodes": [{"id": 1, "callFrame": {"url": "", "lineNumber": -1, "columnNumber": -1}}]});
        assert!(hot(&timeless).expect_err("refused").to_string().contains("neither"));
    }
}
