//! A platform and a control plane that fail half of the time: publish succeeds, or fails in time and clearly, and
//! never publishes twice.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{harness::World, proxy::Fault};

/// What a publish may take when things go wrong, in all.
const BUDGET: Duration = Duration::from_secs(150);

/// A fixed sequence of numbers that look random (SplitMix64), so that a failure can be repeated.
struct Dice(AtomicU64);

impl Dice {
    fn roll(&self) -> u64 {
        let mut z =
            self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Publishes `rounds` versions while `broken` decides about half of the requests.
fn publish_through(seed: u64, rounds: usize, faults: &'static [Fault]) -> usize {
    let world = World::new();
    let dice = Dice(AtomicU64::new(seed));
    world.proxy.decide(move |_, _, _| {
        let roll = dice.roll();
        if roll.is_multiple_of(2) { faults[(roll >> 8) as usize % faults.len()] } else { Fault::None }
    });
    let mut published = 0;
    for round in 0..rounds {
        let version = format!("1.0.{round}");
        let folder = world.package("@acme/core", &version);
        let started = Instant::now();
        let screen = world.cli_in(&folder, &["publish"]);
        assert!(started.elapsed() < BUDGET, "round {round} took {:?}\n{screen}", started.elapsed());
        match screen.code {
            0 => published += 1,
            5 => assert!(screen.stderr.contains("error: "), "{screen}"),
            other => panic!("round {round} ended with {other}\n{screen}"),
        }
        if screen.code == 0 {
            let text = format!("{}{}", screen.stdout, screen.stderr);
            assert!(text.contains(&format!("@acme/core@{version}")), "{screen}");
        }
    }
    world.proxy.decide(|_, _, _| Fault::None);
    for round in 0..rounds {
        let version = format!("1.0.{round}");
        let times = world.count("registry.publish", "allow", Some(&version));
        assert!(times <= 1, "{version} was published {times} times");
    }
    assert!(
        world.count("registry.publish", "allow", None) >= published,
        "what was said to be published is there"
    );
    published
}

#[test]
fn half_of_the_answers_are_503() {
    assert!(publish_through(1, 8, &[Fault::Unavailable]) > 0);
}

#[test]
fn half_of_the_connections_break() {
    assert!(publish_through(2, 8, &[Fault::Reset]) > 0);
}

#[test]
fn half_of_the_answers_are_lost() {
    assert!(publish_through(3, 8, &[Fault::LoseAnswer]) > 0);
}

#[test]
fn half_of_the_requests_stall_or_break() {
    publish_through(4, 4, &[Fault::StallMs(3_000), Fault::Unavailable, Fault::Reset, Fault::LoseAnswer]);
}

#[test]
fn nothing_answers_at_all() {
    let world = World::new();
    world.proxy.decide(|_, _, _| Fault::Unavailable);
    let folder = world.package("@acme/core", "1.0.0");
    let started = Instant::now();
    let screen = world.cli_in(&folder, &["publish"]);
    screen.failed(5, &["ID token", "503"]);
    assert!(started.elapsed() < BUDGET);
}
