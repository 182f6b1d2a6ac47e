//! What a hardened build is asked for, and what it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use protected_model::{
    build::{Escrow, Hardening, PipelineStep, Protection},
    digest::Sha256,
    integrity::FileDigest,
    secret::BuildSecret,
};

use crate::obfuscate::Mark;

/// A hardened build: the files of one package in, an artifact folder and an escrow folder out.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The files that npm would pack, each once.
    pub files: &'a [SourceFile],
    /// The `package.json` to publish, as JSON. It takes the place of the one among `files`.
    pub package_json: &'a str,
    /// The project's `tsconfig.json`, which npm does not pack.
    pub tsconfig: Option<&'a Path>,
    /// The folder to fill with what is published. It exists and is empty.
    pub artifact: &'a Path,
    /// The folder to fill with the source maps. It exists, is empty, and only its owner may enter it.
    pub escrow: &'a Path,
    /// How to harden.
    pub options: &'a Options,
    /// Ends the build with [`HardenError::Cancelled`](crate::HardenError::Cancelled) between two files.
    pub cancelled: &'a AtomicBool,
}

/// A file to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the package's root, with `/`.
    pub path: String,
    /// Where its content is.
    pub absolute: PathBuf,
    /// Permission bits as the tarball has them: `0o644` or `0o755`.
    pub mode: u32,
}

/// How to harden. Equal files and options give equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Keeps `name` of every function and class, for code that reads it.
    pub keep_names: bool,
    /// What becomes of licence comments.
    pub legal_comments: LegalComments,
    /// Whether internal modules are merged into the entry points that `package.json` names.
    pub bundle: bool,
    /// What of the declaration files is published.
    pub declarations: Declarations,
    /// Whether names are shortened and code is compressed.
    pub minify: bool,
    /// How code is obfuscated.
    pub obfuscation: Obfuscation,
    /// The newest syntax that may be in compiled TypeScript. `None` takes the `tsconfig.json`'s `target`.
    ///
    /// JavaScript is never rewritten to older syntax: its author chose it.
    pub target: Option<EcmaVersion>,
    /// Whether the original-to-final source maps are written to the escrow folder.
    pub escrow: bool,
    /// How many files are worked on at once. `None` takes one for each core.
    pub threads: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_names: false,
            legal_comments: LegalComments::File,
            bundle: false,
            declarations: Declarations::Keep,
            minify: true,
            obfuscation: Obfuscation::default(),
            target: None,
            escrow: true,
            threads: None,
        }
    }
}

/// How code is obfuscated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obfuscation {
    /// How far, where nothing else is said.
    pub profile: Profile,
    /// How far in the files that a pattern names: a path in the package, in which `*` stands for anything but `/`
    /// and `**` for anything. The last pattern that matches counts.
    pub files: Vec<(String, Profile)>,
    /// Names of properties, functions and variables that stay as they are wherever they stand.
    pub reserved_names: BTreeSet<String>,
    /// Functions that run often, and so are kept out of the steps that cost time.
    pub hot: Vec<SourcePlace>,
    /// Whether code that was changed afterwards refuses to run.
    pub self_defence: bool,
    /// The project's build secret, from which every choice follows together with the source.
    pub secret: Option<BuildSecret>,
    /// The mark of the delivery that the artifact is for.
    pub mark: Option<Mark>,
}

impl Obfuscation {
    /// Returns whether any file is obfuscated.
    pub fn is_wanted(&self) -> bool {
        let mut profiles = self.files.iter().map(|(_, profile)| *profile).chain([self.profile]);
        profiles.any(|profile| profile > Profile::Light)
    }
}

/// How far code is obfuscated. Cost and resistance of each stand in `docs/hardening.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Not at all: names are shortened, and that is all.
    #[default]
    Light,
    /// Strings and property names are encoded, and functions lose their shape.
    Standard,
    /// What can be hidden is hidden, at a cost.
    Strong,
}

impl Profile {
    /// Every profile, from the weakest.
    pub const ALL: [Self; 3] = [Self::Light, Self::Standard, Self::Strong];

    /// Returns the name that configuration and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Standard => "standard",
            Self::Strong => "strong",
        }
    }
}

/// A place in a source file. Line and column count from 1, columns in UTF-16 units, as stack traces have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePlace {
    /// Relative to the package's root, with `/`.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// What becomes of `/*! */`, `@license`, `@preserve` and `@cc_on` comments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegalComments {
    /// They stay, at the top of their file.
    Keep,
    /// They are collected in `LEGAL.txt`.
    #[default]
    File,
    /// They go.
    Remove,
}

impl LegalComments {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Keep, Self::File, Self::Remove];

    /// Returns the name that configuration and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::File => "file",
            Self::Remove => "remove",
        }
    }
}

/// What of a package's declaration files is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declarations {
    /// Everything, as it is.
    #[default]
    Keep,
    /// What users of the entry points see.
    Public,
}

impl Declarations {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Keep, Self::Public];

    /// Returns the name that configuration and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Public => "public",
        }
    }
}

/// A version of ECMAScript, by year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum EcmaVersion {
    Es2015,
    Es2016,
    Es2017,
    Es2018,
    Es2019,
    Es2020,
    Es2021,
    Es2022,
    EsNext,
}

/// A hardened package.
#[derive(Clone, Debug)]
pub struct Hardened {
    /// The steps that ran, in their order.
    pub pipeline: Vec<PipelineStep>,
    /// What the result is.
    pub protection: Protection,
    /// What the choices followed from.
    pub hardening: Hardening,
    /// What was published less protected than asked, and why, by the path it is published under.
    pub unprotected: BTreeMap<String, String>,
    /// Code and declarations that stay files of their own though `package.json` does not lead to them, and why.
    pub kept_apart: BTreeMap<String, String>,
    /// The source files that each published file of code was made of, by its path. A file that only hands on what is
    /// in others was made of none.
    pub modules: BTreeMap<String, BTreeSet<String>>,
    /// Code and declarations that are left out because nothing that `package.json` names reaches it.
    pub shaken: BTreeSet<String>,
    /// The source maps' digest.
    pub escrow: Option<Escrow>,
    /// Digest of the files that went in.
    pub source_tree_sha256: Sha256,
    /// Every file in the artifact folder, in the order of its path's bytes.
    pub artifact: Vec<FileDigest>,
    /// `package.json` as it stands in the artifact.
    pub package_json: Vec<u8>,
}
