//! One connection's byte stream, which a handler can have cut off.
//!
//! Never cuts by itself. A response that carries [`Cut`] as an extension is not sent; a body stream that fails ends the
//! connection where it is. In both cases the peer gets a TCP reset when it was asked for, and a plain close otherwise.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A request extension: whether it came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secure(pub(crate) bool);

/// How to end a connection instead of answering: put it into a response's extensions, whose status and body are then
/// not sent. Routers called in process see it as the extension it is.
///
/// To cut in the middle of a body, let the body stream yield an error: over HTTP/1.1 the client sees an incomplete body,
/// over HTTP/2 a stream reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Close without a word: the client reads end of file where it expected a status line.
    Close,
    /// Reset: the client's read fails with "connection reset by peer".
    Reset,
}

/// A request extension, one for each connection: [`ResetSwitch::arm`] makes the connection's end a TCP reset, whatever
/// ends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    pub(crate) fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A TCP stream that ends in a reset once its switch is armed.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    reset: ResetSwitch,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, reset: ResetSwitch::default() }
    }

    pub(crate) fn reset_switch(&self) -> ResetSwitch {
        self.reset.clone()
    }

    fn armed(&self) -> bool {
        self.reset.0.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.armed() {
            // With a linger of zero, closing sends RST. If it cannot be set, a plain close cuts the client off as well.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.armed() {
            // An orderly FIN first would let the client see a clean end; the reset comes on drop.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body that lets what it has handed out reach the wire before it fails.
///
/// Hyper drops its write buffer when a body fails, so a body cut after its first chunk would look like no answer at all.
/// This one pauses for one turn before it passes the error on, and hyper flushes in that turn.
#[derive(Debug)]
pub(crate) struct FlushBeforeError {
    body: Body,
    error: Option<axum::Error>,
}

impl FlushBeforeError {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, error: None }
    }
}

impl HttpBody for FlushBeforeError {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                self.error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.error.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
