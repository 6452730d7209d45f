//! Where the processes of a run wait for their turn before anything of theirs reaches what they share: of all that is on
//! its way, what was to come first comes first.
//!
//! Never lets time pass by itself: whoever conducts the run opens it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// One process's.
#[derive(Default)]
pub(crate) struct Gate {
    waiting: Mutex<VecDeque<oneshot::Sender<()>>>,
    asked: Notify,
}

impl Gate {
    /// Waits until it is this process's turn.
    pub(crate) async fn turn(&self) {
        let (open, opened) = oneshot::channel();
        self.lock().push_back(open);
        self.asked.notify_one();
        // A gate that is gone belongs to a process that is.
        let _ = opened.await;
    }

    /// Until somebody waits.
    pub(crate) async fn asked(&self) {
        while self.lock().is_empty() {
            self.asked.notified().await;
        }
    }

    /// Lets everybody through who waits.
    pub(crate) fn open(&self) {
        for open in self.lock().drain(..) {
            // Whoever waited may have been dropped.
            let _ = open.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
