//! `integrity`: writes the manifest of every other file into the package.

use protected_model::integrity::{IntegrityManifest, MEDIA_TYPE, canonical};

use super::{Context, OURS, Step};
use crate::{HardenError, tree::Tree};

pub(super) const STEP: Step = Step { name: "integrity", tool: OURS, wanted: |_, _| true, config, run };

/// Where the manifest stands in the package.
const PATH: &str = "integrity.json";

fn config(_: &Context<'_>) -> Result<serde_json::Value, HardenError> {
    Ok(serde_json::json!({ "schema": MEDIA_TYPE, "path": PATH }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    if tree.contains(PATH) {
        return Err(HardenError::Collision {
            first: PATH.to_owned(),
            second: "the integrity manifest".to_owned(),
            published: PATH.to_owned(),
        });
    }
    let files = tree.digests();
    let manifest = IntegrityManifest::new(context.package.clone(), context.version.clone(), files);
    tree.write(PATH, &canonical(&manifest), 0o644)?;
    Ok(1)
}
