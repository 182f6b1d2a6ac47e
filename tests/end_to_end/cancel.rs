//! SIGINT and SIGTERM at any point: nothing is left behind, and every token is revoked.

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use crate::{
    harness::{CLI, Screen, World},
    proxy::Fault,
};

/// Publishes, holds the first request to `path` for a while, and sends a signal meanwhile.
fn cancel_at(path: &'static str, signal: &str) -> (World, Screen) {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let (reached, waiting) = mpsc::channel();
    let reached = Mutex::new(Some(reached));
    world.proxy.decide(move |_, target, _| {
        if target.contains(path)
            && let Some(reached) = reached.lock().expect("lock").take()
        {
            reached.send(()).expect("send");
            std::thread::sleep(Duration::from_millis(700));
        }
        Fault::None
    });
    let world = Arc::new(world);
    let mut command = world.github("release", CLI, &["publish"]);
    let child = command
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    waiting.recv_timeout(Duration::from_secs(60)).expect("the request comes");
    let sent =
        std::process::Command::new("kill").arg(signal).arg(child.id().to_string()).status().expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("output");
    let screen = Screen {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    world.saw(screen.clone());
    let world = Arc::into_inner(world).expect("one owner");
    (world, screen)
}

#[test]
fn a_signal_at_any_step_ends_the_command_cleanly() {
    for (path, minted) in [
        ("/local-issuer/", 0),
        ("/v1/oauth/token", 1),
        ("/v1/packages/protection/builds", 1),
        ("/v1/packages/registry/tokens/npm", 2),
        ("/repository/npm-hosted/", 2),
    ] {
        for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
            let (world, screen) = cancel_at(path, signal);
            assert_eq!(screen.code, code, "{path} {signal}\n{screen}");
            assert!(screen.stderr.contains("cancelled"), "{path} {signal}\n{screen}");
            let revoked = world.count("token.revoke", "allow", None);
            assert_eq!(revoked, minted, "{path} {signal}: tokens minted and revoked\n{screen}");
            let staging: Vec<_> = fs::read_dir(world.path("work/acme-core-1.0.0"))
                .expect("package")
                .chain(fs::read_dir(world.path("tmp")).expect("tmp"))
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name.starts_with(".protected") || name.contains("npmrc"))
                .collect();
            assert!(staging.is_empty(), "{path} {signal}: {staging:?}");
        }
    }
}
