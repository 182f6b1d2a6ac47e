//! Signals: a command is told, undoes what it did, and only then ends.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::error::{CommandError, Signal};

/// How long a request that mints something may go on after a signal. Were it dropped at once, its token
/// could be minted and never be known here, hence never revoked. CI runners kill about ten seconds later.
const SHIELD: Duration = Duration::from_secs(4);

/// Tells whether the command was cancelled. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cancel {
    receiver: watch::Receiver<Option<Signal>>,
    flag: Arc<AtomicBool>,
}

impl Cancel {
    /// Starts listening for SIGINT, SIGTERM and SIGHUP (Ctrl-C and Ctrl-Break on Windows).
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let flag = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&flag);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            let signal = signals.next().await;
            raised.store(true, Ordering::SeqCst);
            // Nobody listens any more when the command has just ended.
            let _ = sender.send(Some(signal));
            // Keeps the channel open, and later signals from killing the cleanup.
            loop {
                signals.next().await;
            }
        });
        Ok(Self { receiver, flag })
    }

    /// Returns the flag for code that cannot wait, such as a build on its own threads.
    pub(crate) fn shared_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Fails when a signal has come.
    ///
    /// # Errors
    /// [`CommandError::cancelled`].
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        let signal = *self.receiver.borrow();
        signal.map_or(Ok(()), |signal| Err(CommandError::cancelled(signal)))
    }

    /// Waits for `work`, or drops it at a signal.
    ///
    /// # Errors
    /// [`CommandError::cancelled`].
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, CommandError> {
        self.check()?;
        tokio::select! {
            biased;
            signal = self.signal() => Err(CommandError::cancelled(signal)),
            done = work => Ok(done),
        }
    }

    /// Waits for `work`, and after a signal for a short while longer: for requests whose answer must be known
    /// to be undone. The caller checks for the signal afterwards.
    ///
    /// # Errors
    /// [`CommandError::cancelled`] when the while is over, too.
    pub(crate) async fn shield<T>(&self, work: impl Future<Output = T>) -> Result<T, CommandError> {
        self.check()?;
        tokio::select! {
            done = work => Ok(done),
            signal = async { let signal = self.signal().await; tokio::time::sleep(SHIELD).await; signal } =>
                Err(CommandError::cancelled(signal)),
        }
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&self) {
        self.signal().await;
    }

    async fn signal(&self) -> Signal {
        let mut receiver = self.receiver.clone();
        let found = receiver.wait_for(Option::is_some).await.ok().and_then(|signal| *signal);
        match found {
            Some(signal) => signal,
            // The listener lives as long as the runtime: there is no signal to wait for any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Terminate,
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    terminate: tokio::signal::windows::CtrlBreak,
}

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { interrupt: ctrl_c()?, terminate: ctrl_break()? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
