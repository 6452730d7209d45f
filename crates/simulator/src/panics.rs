//! Panics are caught by whoever runs the collector's tasks; here they are remembered, because each is a bug.

use std::cell::RefCell;
use std::panic;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Remembers panics, by thread, from now on.
pub(crate) fn remember() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|panic| SEEN.with(|seen| seen.borrow_mut().push(panic.to_string()))));
    });
}

/// What this thread has seen since it was asked last.
pub(crate) fn take() -> Vec<String> {
    SEEN.with(|seen| std::mem::take(&mut *seen.borrow_mut()))
}
