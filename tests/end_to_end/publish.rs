//! The main job: publish, what is on the screen, and that it can be installed.

use std::fs;

use crate::harness::World;

#[test]
fn publishes_records_and_revokes() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["publish"]);
    screen.succeeded();
    println!("{}", screen.whole(&world));
    println!("{}", world.summary());
    println!("{}", fs::read_to_string(world.path("tmp/output")).unwrap_or_default());
}
