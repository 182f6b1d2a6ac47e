//! Memory does not grow with what is sealed. Alone in its process, so that nothing else is counted.

#![cfg(target_os = "linux")]

use std::io::{Read, repeat, sink};

use protected_bundle::{DataKey, ParallelOpener, ParallelSealer, Sealer, open};

/// The most memory that this process ever had, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn seals_and_opens_in_constant_memory() {
    const SIZE: u64 = 64 << 20;
    let key = DataKey::generate().expect("key");
    // A first time, so that what is allocated once does not count.
    for size in [1 << 20, SIZE] {
        let before = peak_bytes();
        let (reader, writer) = std::io::pipe().expect("pipe");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sealer = Sealer::new(&key, b"context", writer).expect("sealer");
                std::io::copy(&mut repeat(7).take(size), &mut sealer).expect("copy");
                sealer.finish().expect("finish");
            });
            assert_eq!(open(&key, b"context", reader, sink()).expect("open"), size);
        });
        let grown = peak_bytes() - before;
        assert!(size < SIZE || grown < 1 << 20, "{grown} bytes more for {size}");
    }
    let before = peak_bytes();
    let (reader, writer) = std::io::pipe().expect("pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sealer = ParallelSealer::new(&key, b"context", writer, 2).expect("sealer");
            std::io::copy(&mut repeat(7).take(SIZE), &mut sealer).expect("copy");
            sealer.finish().expect("finish");
        });
        let mut opener = ParallelOpener::new(&key, b"context", reader, 2).expect("opener");
        assert_eq!(std::io::copy(&mut opener, &mut sink()).expect("open"), SIZE);
        opener.finish().expect("finish");
    });
    // Five batches of a mebibyte on either side.
    let grown = peak_bytes() - before;
    assert!(grown < 14 << 20, "{grown} bytes more in parallel");
}
