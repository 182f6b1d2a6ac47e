//! The embedded FractalOps with its npm registry, as a process.

use std::{
    io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use protected_embedded::Config;

/// Runs FractalOps' package contract, an npm registry and a local OIDC issuer on this machine
#[derive(Parser)]
#[command(name = "fractalops-local", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM
    Serve(Serve),
    /// Write a commented configuration to standard output
    ExampleConfig,
    /// Write the OpenAPI document of the HTTP interface to standard output
    Openapi,
}

#[derive(clap::Args)]
struct Serve {
    /// Configuration file; `fractalops-local example-config` writes one to start from
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Address to listen on, instead of the configuration's; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Folder for the data, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// File that gets the base URL once requests are answered
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve(arguments),
        Command::ExampleConfig => write(Config::example()),
        Command::Openapi => serde_json::to_string_pretty(&protected_embedded::openapi())
            .map_err(|error| error.to_string())
            .and_then(|text| write(&text)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Serve) -> Result<(), String> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            "off,protected_embedded=info,protected_trust=info",
        ))
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(io::stderr)
        .init();
    let mut config = Config::from_file(&arguments.config)
        .map_err(|error| format!("{}: {}", arguments.config.display(), chain(&error)))?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    }
    if let Some(data) = arguments.data {
        config.server.data = data;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let listen = config.server.listen;
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let ready = move |base: &str| announce(base, address, arguments.ready_file.as_deref());
        protected_embedded::serve(config, listener, ready, shutdown()).await.map_err(|error| chain(&error))
    })
}

/// Says that requests are answered, on standard error and in the ready file.
fn announce(base: &str, address: std::net::SocketAddr, ready_file: Option<&Path>) -> io::Result<()> {
    writeln!(io::stderr(), "fractalops-local serves {base} on {address}")?;
    let Some(file) = ready_file else { return Ok(()) };
    // Renamed into place: whoever waits for the file never reads half of it.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    staged.write_all(base.as_bytes())?;
    staged.persist(file)?;
    Ok(())
}

async fn shutdown() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

fn write(text: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{}", text.trim_end()).map_err(|error| error.to_string())
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
