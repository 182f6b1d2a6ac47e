//! The `protected-registry` command.

mod args;
mod build;
mod cancel;
mod client;
mod command;
mod config_file;
mod console;
mod context;
mod delivery;
mod document;
mod environment;
mod error;
mod escrow;
mod evidence;
mod hardening;
mod key_service;
mod package;
mod provenance;
mod read;
mod sbom;
mod settings;
mod signing;
mod summary;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use protected_model::{environment::Environment, key_ref::looks_like_key_material, secret::AccessToken};

use crate::{
    args::{Arguments, Command},
    cancel::Cancel,
    console::Console,
    context::Context,
    error::CommandError,
    settings::Settings,
};

/// A hardened build makes and drops millions of syntax nodes on several threads. Beside glibc's allocator this one takes a
/// third or more off the time of a file of 9 MB, and a tenth to two fifths off its memory. Version 3 of it takes more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completions(completions) = &arguments.command {
        return command::completions::run(completions);
    }
    log(arguments.global.verbose);
    let name = arguments.command.name();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CommandError::new(error::Kind::Failed, format!("cannot start: {error}"));
            return alone(name, &error, arguments.global.format.unwrap_or_default());
        }
    };
    let code = runtime.block_on(run(arguments));
    // Threads for computation have stopped by now; what still waits is a name look-up at most.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn run(arguments: Arguments) -> ExitCode {
    let name = arguments.command.name();
    let context = match surroundings(&arguments) {
        Ok(context) => context,
        Err(error) => return alone(name, &error, arguments.global.format.unwrap_or_default()),
    };
    let result = command::run(&context, arguments.command).await;
    context.clean_up().await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let id = Some(&*context.correlation_id);
            context.console.failure(name, &error, id);
            context.console.summary(&summary::failure(name, &error, id));
            error.kind.exit_code()
        }
    }
}

fn surroundings(arguments: &Arguments) -> Result<Context, CommandError> {
    let directory = std::env::current_dir()
        .map_err(|error| CommandError::usage(format!("the working directory is not there: {error}")))?;
    let environment = environment::with_dotenv(environment::process(), &directory)
        .map_err(|error| CommandError::usage(error.to_string()))?;
    let settings = Settings::load(&arguments.global, environment, PathBuf::from(&directory))?;
    let platform = protected_ci::detect(&settings.environment);
    let no_colour = settings.environment.get("NO_COLOR").is_some();
    let console = Console::new(settings.format, no_colour, platform);
    mask_pasted_keys(&console, &settings.environment);
    let cancel = Cancel::listen()
        .map_err(|error| CommandError::usage(format!("cannot listen for signals: {error}")))?;
    Ok(Context::new(settings, console, cancel))
}

/// The settings that name a key.
const NAMES_OF_KEYS: &[&str] =
    &["PROTECTED_REGISTRY_KEY_REF", "PROTECTED_REGISTRY_ESCROW_KEY", "PROTECTED_REGISTRY_SIGN_KEY"];

/// Has the platform hide a key that stands where its name belongs.
///
/// Attack: none is needed. Platforms show what a step was given; such a key is refused, and what shows it later, in this
/// step or another, need not show it again.
fn mask_pasted_keys(console: &Console, environment: &Environment) {
    let given = NAMES_OF_KEYS.iter().filter_map(|name| environment.get(name));
    given.filter(|text| looks_like_key_material(text)).for_each(|text| console.mask(&AccessToken::new(text)));
}

/// Says why not even the settings could be read, in the platform's own forms too.
fn alone(name: &str, error: &CommandError, format: args::Format) -> ExitCode {
    let platform = protected_ci::detect(&environment::process());
    Console::new(format, true, platform).failure(name, error, None);
    error.kind.exit_code()
}

fn log(verbose: u8) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Only our own crates: a library's trace may hold a header.
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "off,protected_registry={level},protected_http={level},protected_ci={level},protected_fractalops={level},protected_npm={level},protected_harden={level},protected_evidence={level},protected_keys={level}"
    ));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}
