//! `escrow`: completes the private folder of source maps with its index.
//!
//! The maps lead from the original to what is published, so that a stack trace of the protected package can be
//! read by whoever holds the folder. It never becomes a part of the artifact.

use protected_model::{
    build::Escrow,
    digest::Sha256,
    integrity::{FileDigest, tree_sha256},
};
use serde::{Deserialize, Serialize};

use super::{Context, OURS, Step};
use crate::{
    HardenError,
    tree::{Tree, octal, put},
};

pub(super) const STEP: Step =
    Step { name: "escrow", tool: OURS, wanted: |options, _| options.escrow, config, run };

/// The name of the index.
pub(crate) const INDEX: &str = "index.json";

/// The media type of the index.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.protected-registry.escrow.v1+json";

/// Only the owner may read a map: it holds the source.
const MODE: u32 = 0o600;

/// What the escrow holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) schema: String,
    pub(crate) package_name: String,
    pub(crate) version: String,
    pub(crate) maps: Vec<Mapped>,
}

/// A published file and its map, in the order of the published digest.
#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mapped {
    pub(crate) output_sha256: Sha256,
    pub(crate) output_path: String,
    pub(crate) map_path: String,
    pub(crate) map_sha256: Sha256,
}

fn config(_: &Context<'_>) -> Result<serde_json::Value, HardenError> {
    Ok(serde_json::json!({ "schema": MEDIA_TYPE, "map_version": 3, "sources_content": true }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let folder = context.request.escrow;
    let failed = |path: &str| {
        let path = folder.join(path);
        move |source| HardenError::Write { path, source }
    };
    let mut maps = Vec::new();
    let mut digests = Vec::new();
    for (output, map_path) in tree.maps() {
        let content = std::fs::read(folder.join(&map_path)).map_err(failed(&map_path))?;
        let map_sha256 = Sha256::of(&content);
        digests.push(FileDigest {
            path: map_path.clone(),
            sha256: map_sha256,
            size: content.len() as u64,
            mode: octal(MODE),
        });
        maps.push(Mapped { output_sha256: output.sha256, output_path: output.path, map_path, map_sha256 });
    }
    digests.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    maps.sort();
    let files = maps.len() as u64;
    if files == 0 {
        return Ok(0);
    }
    let index = Index {
        schema: MEDIA_TYPE.to_owned(),
        package_name: context.package.to_string(),
        version: context.version.to_string(),
        maps,
    };
    let json = protected_model::integrity::canonical(&index);
    put(&folder.join(INDEX), &json, MODE, 0o700).map_err(failed(INDEX))?;
    context.escrow = Some(Escrow { sha256: tree_sha256(&digests), files, key_ref: None });
    Ok(files)
}
