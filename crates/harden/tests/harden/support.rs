//! What the tests share: a package in a folder, hardened.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use protected_harden::{HardenError, Hardened, Options, Request, SourceFile, harden};

pub(crate) struct Package {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) package_json: String,
}

pub(crate) struct Built {
    pub(crate) out: tempfile::TempDir,
    pub(crate) hardened: Hardened,
}

impl Package {
    /// A package of these files; a `package.json` is made up unless it is among them.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for (path, content) in files {
            write(&folder.path().join(path), content.as_bytes());
        }
        Self::at(folder)
    }

    /// A package of the files in `source`.
    pub(crate) fn copy_of(source: &Path) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for path in list(source) {
            write(&folder.path().join(&path), &fs::read(source.join(&path)).expect("file"));
        }
        Self::at(folder)
    }

    fn at(folder: tempfile::TempDir) -> Self {
        let manifest = folder.path().join("package.json");
        if !manifest.exists() {
            write(&manifest, br#"{"name":"sample","version":"1.0.0"}"#);
        }
        let package_json = fs::read_to_string(manifest).expect("package.json");
        Self { folder, package_json }
    }

    pub(crate) fn harden(&self, options: &Options) -> Result<Built, HardenError> {
        let out = tempfile::tempdir().expect("folder");
        let (artifact, escrow) = (out.path().join("artifact"), out.path().join("private"));
        fs::create_dir(&artifact).expect("artifact");
        fs::create_dir(&escrow).expect("escrow");
        let files: Vec<SourceFile> = list(self.folder.path())
            .into_iter()
            .filter(|path| path != "tsconfig.json")
            .map(|path| {
                let absolute = self.folder.path().join(&path);
                let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
                SourceFile { path, absolute, mode }
            })
            .collect();
        let tsconfig = Some(self.folder.path().join("tsconfig.json")).filter(|path| path.exists());
        let request = Request {
            files: &files,
            package_json: &self.package_json,
            tsconfig: tsconfig.as_deref(),
            artifact: &artifact,
            escrow: &escrow,
            options,
            cancelled: &AtomicBool::new(false),
        };
        harden(&request).map(|hardened| Built { out, hardened })
    }
}

impl Built {
    pub(crate) fn artifact(&self) -> PathBuf {
        self.out.path().join("artifact")
    }

    pub(crate) fn escrow(&self) -> PathBuf {
        self.out.path().join("private")
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.artifact().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        list(&self.artifact())
    }

    /// Runs a program against the artifact and returns what it wrote.
    pub(crate) fn node(&self, script: &str) -> String {
        node(&self.artifact(), &["-e", script])
    }
}

pub(crate) fn node(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("node").args(arguments).current_dir(folder).output().expect("node");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "node failed: {error}");
    String::from_utf8(output.stdout).expect("utf-8")
}

/// Every file below `folder`, relative, sorted.
pub(crate) fn list(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).expect("folder") {
            let entry = entry.expect("entry");
            let path = format!("{below}{}", entry.file_name().to_str().expect("utf-8"));
            if entry.file_type().expect("type").is_dir() {
                folders.push(format!("{path}/"));
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    list(folder).into_iter().map(|path| (path.clone(), fs::read(folder.join(path)).expect("file"))).collect()
}

fn write(place: &Path, content: &[u8]) {
    fs::create_dir_all(place.parent().expect("parent")).expect("folder");
    fs::write(place, content).expect("file");
}
