//! Many publishes of one version at once: exactly one wins, and what is stored is what it sent.

use std::thread;

use crate::{document, harness::World, raw};

const ROUNDS: usize = 25;
const PUBLISHERS: usize = 20;

#[test]
fn of_twenty_publishes_of_one_version_exactly_one_wins() {
    let world = World::new();
    // The server takes four uploads of one token at a time; these are the jobs of several runs.
    let tokens: Vec<String> =
        (0..PUBLISHERS / 4).map(|_| world.npm_token("release", "@acme/plain", "publish")).collect();
    let install = world.npm_token("release", "@acme/plain", "install");
    for round in 0..ROUNDS {
        let version = format!("1.0.{round}");
        let answers: Vec<(u16, String, String)> = thread::scope(|scope| {
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|number| {
                    let (world, token, version) = (&world, &tokens[number / 4], &version);
                    scope.spawn(move || {
                        let payload =
                            format!("module.exports = {round} * 1000 + {number};").repeat(50 + number);
                        let tarball = document::tarball("@acme/plain", version, payload.as_bytes());
                        let body = document::publish("@acme/plain", version, "latest", &tarball);
                        let (status, answer) = put(world, token, &body);
                        (status, answer, document::integrity(&tarball))
                    })
                })
                .collect();
            publishers.into_iter().map(|publisher| publisher.join().expect("publisher")).collect()
        });
        let winners: Vec<_> = answers.iter().filter(|(status, ..)| *status == 201).collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        for (status, answer, _) in answers.iter().filter(|(status, ..)| *status != 201) {
            assert_eq!(*status, 409, "round {round}: {answer}");
            assert!(answer.contains("different content"), "a loser is told why: {answer}");
        }
        let integrity = &winners[0].2;
        let (stored, served) = stored(&world, &install, "@acme/plain", &version);
        assert_eq!(&stored, integrity, "round {round}: the packument has the winner's integrity");
        assert_eq!(&served, integrity, "round {round}: the tarball is the winner's");
    }
    assert_eq!(
        world.count("registry.publish", "allow", None),
        ROUNDS,
        "one publish is recorded for each version"
    );
}

pub(crate) fn put(world: &World, token: &str, body: &[u8]) -> (u16, String) {
    let path = "/repository/npm-hosted/@acme%2fplain";
    let (status, answer) =
        world.request("PUT", path, Some(token), &[("content-type", "application/json")], body);
    (status, String::from_utf8_lossy(&answer).into_owned())
}

/// Returns a version's integrity as the packument has it, and as its tarball has it.
pub(crate) fn stored(world: &World, token: &str, name: &str, version: &str) -> (String, String) {
    let path = format!("/repository/npm-hosted/{}", name.replace('/', "%2f"));
    let (status, body) = world.request("GET", &path, Some(token), &[("accept", "application/json")], b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let packument: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let dist = &packument["versions"][version]["dist"];
    let url = dist["tarball"].as_str().unwrap_or_else(|| panic!("{name}@{version} is not there"));
    let path = url.strip_prefix(&world.base()).expect("a URL of this registry");
    let (status, _, tarball) = raw::request(world.proxy.address, "GET", path, Some(token), &[], b"");
    assert_eq!(status, 200, "{path}");
    (dist["integrity"].as_str().expect("integrity").to_owned(), document::integrity(&tarball))
}
