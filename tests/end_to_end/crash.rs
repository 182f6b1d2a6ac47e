//! `kill -9` of the server while packages are published: what was acknowledged is there, whole, and nothing else.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use crate::{
    document,
    harness::{World, files},
    race,
};

/// How often the server is killed.
const KILLS: usize = 200;
const PUBLISHERS: usize = 2;

#[test]
fn a_kill_at_any_moment_loses_nothing_acknowledged_and_shows_nothing_half() {
    let world = World::new();
    let mut token = world.npm_token("release", "@acme/plain", "publish");
    let next = AtomicUsize::new(0);
    // Every version that was sent, with the integrity of each attempt, and whether it was acknowledged.
    let sent: Mutex<BTreeMap<String, (String, bool)>> = Mutex::default();
    for kill in 0..KILLS {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..PUBLISHERS {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let version = format!("1.0.{}", next.fetch_add(1, Ordering::SeqCst));
                        let payload = format!("module.exports = '{version}';").repeat(200);
                        let tarball = document::tarball("@acme/plain", &version, payload.as_bytes());
                        let integrity = document::integrity(&tarball);
                        sent.lock().expect("lock").insert(version.clone(), (integrity.clone(), false));
                        let body = document::publish("@acme/plain", &version, "latest", &tarball);
                        let (status, answer) = race::put(&world, &token, &body);
                        match status {
                            201 => {
                                sent.lock().expect("lock").insert(version, (integrity, true));
                            }
                            // The kill came first.
                            0 => return,
                            // The other publisher's higher version may have moved `latest` on.
                            422 if answer.contains("never moves back") => {}
                            other => panic!("{version}: {other} {answer}"),
                        }
                    }
                });
            }
            // Spread by a fixed sequence over several publishes, which take a few to some tens of milliseconds.
            thread::sleep(Duration::from_micros(500 + (kill as u64 * 7_919) % 80_000));
            world.kill();
            stop.store(true, Ordering::SeqCst);
        });
        world.start();
        if kill % 20 == 19 {
            token = world.npm_token("release", "@acme/plain", "publish");
        }
    }

    let install = world.npm_token("release", "@acme/plain", "install");
    let path = "/repository/npm-hosted/@acme%2fplain";
    let (status, body) = world.request("GET", path, Some(&install), &[("accept", "application/json")], b"");
    assert_eq!(status, 200);
    let packument: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let visible = packument["versions"].as_object().expect("versions");
    let sent = sent.into_inner().expect("lock");
    let acknowledged = sent.values().filter(|(_, acknowledged)| *acknowledged).count();
    assert!(
        acknowledged >= KILLS / 4,
        "only {acknowledged} publishes were acknowledged: the test tests little"
    );
    for (version, (integrity, acknowledged)) in &sent {
        let Some(document) = visible.get(version) else {
            assert!(!acknowledged, "{version} was acknowledged and is lost");
            continue;
        };
        assert_eq!(document["dist"]["integrity"], integrity.as_str(), "{version}");
        let (_, served) = race::stored(&world, &install, "@acme/plain", version);
        assert_eq!(&served, integrity, "{version}: the tarball is whole");
    }
    for version in visible.keys() {
        assert!(sent.contains_key(version), "{version} was never sent");
    }
    // A version that was cut off can be published again.
    if let Some(version) = sent.keys().find(|version| !visible.contains_key(*version)) {
        let token = world.npm_token("release", "@acme/plain", "publish");
        let tarball = document::tarball("@acme/plain", version, b"again");
        let (status, answer) =
            race::put(&world, &token, &document::publish("@acme/plain", version, "again", &tarball));
        assert_eq!(status, 201, "{answer}");
    }
    // The audit trail has each visible version once, and its chain of hashes holds.
    let events = world.audit();
    for version in visible.keys() {
        let published = events.iter().filter(|event| {
            event["action"] == "registry.publish"
                && event["decision"] == "allow"
                && event["target"]["version"] == version.as_str()
        });
        assert_eq!(published.count(), 1, "{version}");
    }
    for pair in events.windows(2) {
        assert_eq!(pair[1]["prev_hash"], pair[0]["hash"]);
    }
    // What the last start has not swept away would stay for ever.
    let data = world.path("server/data");
    let leftovers: Vec<_> = files(&data.join("blobs"))
        .into_iter()
        .filter(|path| path.file_name().is_none_or(|name| name.len() != 64))
        .collect();
    assert!(leftovers.is_empty(), "temporary files stay: {leftovers:?}");
}
