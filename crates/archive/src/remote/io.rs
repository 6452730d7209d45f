//! Where the requests of a remote archive run: two threads of their own, so that whoever works on the archive can wait for
//! them on any thread, also on one that runs tasks.
//!
//! Never runs anything else, and never outlives the archive.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::coop::unconstrained;

/// Requests wait for the network nearly all the time; two threads keep one that decrypts from holding up another.
const THREADS: usize = 2;

/// See the file's head.
pub(super) struct Io(Option<Runtime>);

impl Io {
    pub(super) fn start() -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        Ok(Self(Some(builder.worker_threads(THREADS).thread_name("archive-store").enable_all().build()?)))
    }

    pub(super) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken when this is dropped").handle()
    }

    /// Runs the work there, and waits here. A panic there goes on here.
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match wait(self.handle().spawn(work)) {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => unreachable!("nobody cancels it while the runtime lives: {error}"),
            },
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // Not by dropping it, which would wait, and may not be done on a thread that runs tasks.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for something that makes progress on other threads. Not a runtime's `block_on`, which refuses threads that run
/// tasks.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    // Were it to take part in the budget of a task that runs on this thread, it could be told to wait for ever.
    let mut future = pin!(unconstrained(future));
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
