//! Several commands at once on one delivery: one is first, and the others go on with what it made or say that it is there.

use std::{process::Command, thread};

use protected_bundle::layout::Delivery;

use crate::{
    deliver::{customer, deliver, key, open, read_json, small, staged},
    harness::{Screen, World},
};

/// How many run at once, and how often: for each place where one can be faster there are runs in which it is.
const AT_ONCE: usize = 4;
const ROUNDS: usize = 8;

fn at_once(world: &World, commands: impl IntoIterator<Item = Command>) -> Vec<Screen> {
    thread::scope(|scope| {
        let runs: Vec<_> =
            commands.into_iter().map(|command| scope.spawn(move || world.run(command))).collect();
        runs.into_iter().map(|run| run.join().expect("thread")).collect()
    })
}

#[test]
fn several_that_deliver_to_one_place_make_one_delivery() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    let unrecorded = ["--no-submit", "--tenant", "acme", "--sign", "off"];
    for round in 0..ROUNDS {
        let out = format!("sealed-{round}");
        let screens = at_once(&world, (0..AT_ONCE).map(|_| deliver(&world, &built, &out, &unrecorded)));
        for screen in &screens {
            assert_eq!(screen.succeeded().stdout, screens[0].stdout, "in round {round}");
        }
        open(&world, "keys", &out, &format!("opened-{round}")).succeeded();
    }
    let screens = at_once(&world, (0..AT_ONCE).map(|_| deliver(&world, &built, "recorded", &[])));
    for screen in screens {
        screen.succeeded();
    }
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    assert!(staged(&world).is_empty());
}

#[test]
fn of_several_that_open_to_one_place_one_does() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    world.run(deliver(&world, &small(&world), "sealed", &[])).succeeded();
    open(&world, "keys", "sealed", "alone").succeeded();
    for round in 0..ROUNDS {
        let out = format!("opened-{round}");
        let opening = |_| customer(&world, "keys", &["open-bundle", "sealed", "--out", &out]);
        let screens = at_once(&world, (0..AT_ONCE).map(opening));
        let (opened, late): (Vec<_>, Vec<_>) = screens.iter().partition(|screen| screen.code == 0);
        assert_eq!(opened.len(), 1, "in round {round}");
        for screen in late {
            screen.failed(2, &["is there already"]);
        }
        let folders = [world.path("work/alone"), world.path("work").join(&out)];
        assert!(Command::new("diff").arg("-r").args(folders).status().expect("diff").success());
    }
    assert!(staged(&world).is_empty());
}

/// Attack: none is needed. What the one wrapped is gone, and the manifest beside the delivery is of the other, so that a
/// wrapping goes on record that is nowhere.
#[test]
fn several_that_wrap_one_delivery_anew_leave_keys_and_manifest_of_one() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    for (out, more) in [("folder", &[] as &[&str]), ("file", &["--one-file"])] {
        world.run(deliver(&world, &built, out, more)).succeeded();
        for round in 0..ROUNDS {
            let by_hand = ["rewrap", out, "--sign", "off", "--accept-unproven"];
            let screens = at_once(&world, (0..AT_ONCE).map(|_| customer(&world, "keys", &by_hand)));
            let late: Vec<_> = screens.iter().filter(|screen| screen.code != 0).collect();
            assert!(late.len() < AT_ONCE, "nobody was first: {}", late[0]);
            for screen in late {
                screen.failed(6, &["it was changed meanwhile"]);
            }
            let verified = world.run(customer(&world, "nobody", &["verify", out]));
            let said = &verified.succeeded().stderr;
            assert!(!said.contains("wrapped anew"), "{out}, round {round}: {verified}");
            let manifest = read_json(&world.path("work").join(out).join("delivery-manifest.json"));
            let bundle =
                world.path("work").join(out).join(if out == "file" { "bundle.tar" } else { "bundle" });
            let bundle = Delivery::open(&bundle).expect("delivery");
            assert_eq!(manifest["key_provider"]["wrapped_key"], bundle.keys().keys[0].wrapped_key);
        }
        open(&world, "keys", out, &format!("opened-{out}")).succeeded();
    }
    assert!(staged(&world).is_empty());
}
