use crate::{args::Install, context::Context, error::CommandError};
pub(crate) async fn run(_: &Context, _: Install) -> Result<(), CommandError> { Ok(()) }
