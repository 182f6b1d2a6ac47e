//! The socket: who may connect, how slow a client may be, and how everything ends.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, middleware};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use jiff::Timestamp;
use protected_model::time::numeric_date;
use protected_trust::mint::KeyFileError;
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt as _;

use crate::{
    app::{App, Clock},
    audit::{self, Gathered},
    config::Config,
    error::ServeError,
    finish, fractalops, local_issuer, oci, registry,
    request::Peer,
    sigstore,
    store::Store,
};

/// How long a client may take to send a request's head. Attack: connections held open by a header a minute.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head.
const HEAD_BYTES: usize = 32 * 1024;
/// The most headers of one request.
const HEADERS: usize = 64;
/// How long requests under way may take once the service is to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long one key signs. Attack: a key that signs for ever is worth more to a thief each day.
const ROTATE_SECONDS: u64 = 30 * 24 * 60 * 60;
/// How long one of the registry's keys signs. Each stays in the list of keys for good.
const ROTATE_REGISTRY_SECONDS: u64 = 180 * 24 * 60 * 60;
/// How often expired tokens and old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Serves until `shutdown`, then lets requests under way finish.
///
/// `ready` is called with the base URL once requests are answered.
///
/// # Errors
/// When the data folder, the keys or the socket cannot be used, or `ready` fails.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    ready: impl FnOnce(&str) -> io::Result<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_at(config, listener, Arc::new(Timestamp::now), ready, shutdown).await
}

/// [`serve`] by another clock.
pub(crate) async fn serve_at(
    config: Config,
    listener: TcpListener,
    clock: Clock,
    ready: impl FnOnce(&str) -> io::Result<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listen)?;
    let store = Store::open(&config.server.data)?;
    let closed = store.closed();
    let (gathered, writing) = Gathered::new(store.clone());
    let writing = tokio::spawn(writing);
    let app = Arc::new(App::open(config, address, store, gathered, clock)?);
    sigstore::begin(&app).await?;
    // Before anybody is answered: what an older release left is brought to what this one serves.
    fractalops::evidence::index_older(&app.store).await?;
    registry::sign_older(&app).await?;
    let chain = app.store.clone();
    tokio::task::spawn_blocking(move || check_chain(&chain));
    if let Some(check) = sigstore::check(&app) {
        tokio::task::spawn_blocking(check);
    }
    let sweeping = tokio::spawn(sweep(Arc::clone(&app)));
    let router = router(Arc::clone(&app));
    ready(&app.public_url.audience()).map_err(ServeError::Listen)?;
    accept(&app, &listener, router, shutdown).await;
    sweeping.abort();
    // A cancelled task has dropped its share of the app, or will at its next step.
    drop(sweeping.await);
    // The work that writes ends with the last way in to it, which is the app's.
    drop(app);
    let ended = async {
        drop(writing.await);
        closed.await;
    };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::error!("requests were still under way at the end; their audit events of reads may be lost");
    }
    Ok(())
}

/// Returns every route, below everything that applies to all of them.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(fractalops::router())
        .merge(local_issuer::router())
        .merge(registry::router())
        .merge(oci::router())
        .merge(sigstore::router())
        .fallback(finish::not_found)
        .method_not_allowed_fallback(finish::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish::finish))
        .with_state(app)
}

/// Reads the whole audit trail once, so that a change behind the service's back does not stay unseen.
fn check_chain(store: &Store) {
    match store.read().and_then(|txn| audit::verify_chain(&txn)) {
        Ok(events) => tracing::info!(events, "the audit chain is whole"),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the audit chain is broken");
        }
    }
}

async fn sweep(app: Arc<App>) {
    let mut progress = fractalops::retention::Progress::default();
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let now = app.now();
        app.answers.sweep(now).await;
        if let Err(error) = rotate(&app, now) {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot rotate the signing key");
        }
        if let Err(error) = oci::rotate(&app, now) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot rotate the keys of registry tokens"
            );
        }
        if let Err(error) = sigstore::rotate(&app, now).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot rotate the Sigstore keys");
        }
        let swept = async {
            app.revoked.sweep(&app.store, now).await?;
            fractalops::replay::sweep(&app.store, now).await
        };
        if let Err(error) = swept.await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot sweep expired tokens");
        }
        if let Err(error) = fractalops::retention::sweep(&app, &mut progress, now).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot sweep old evidence");
        }
    }
}

/// Makes new signing keys when those that sign are old enough.
fn rotate(app: &App, now: Timestamp) -> Result<(), KeyFileError> {
    let is_over = |since, seconds| numeric_date(now) >= numeric_date(since) + seconds;
    if app.keys.since().is_some_and(|since| is_over(since, ROTATE_SECONDS)) {
        app.keys.rotate(now)?;
        tracing::info!("a new key signs tokens from now on");
    }
    if is_over(app.registry_keys.since(), ROTATE_REGISTRY_SECONDS) {
        app.registry_keys.rotate(now)?;
        tracing::info!("a new key signs versions from now on");
    }
    Ok(())
}

async fn accept(app: &App, listener: &TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let connections = Arc::new(Semaphore::new(app.config.limits.connections));
    let clients = Clients::new(app.config.limits.connections_per_client);
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEADERS);
    tokio::pin!(shutdown);
    loop {
        let connection = async {
            // Waiting here leaves further clients to the kernel's queue.
            let permit = Arc::clone(&connections).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            connection = connection => connection,
            () = &mut shutdown => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Such as no file descriptors left: others have to end first.
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(client) = clients.enter(peer.ip()) else { continue };
        let _ = socket.set_nodelay(true);
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request)
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(socket), service));
        tokio::spawn(async move {
            // A client that goes away is its own affair.
            let _ = connection.await;
            drop((permit, client));
        });
    }
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after {} s", DRAIN.as_secs());
    }
}

/// How many connections each address has.
#[derive(Clone)]
struct Clients {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of a client, for as long as it lives.
struct Entered {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    fn enter(&self, address: IpAddr) -> Option<Entered> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Entered { clients: self.clone(), address })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}
