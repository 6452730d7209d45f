//! The emulator's listeners: HTTP and HTTPS, with certificates from a CA the emulator makes itself.
//!
//! Never decides what a request gets: that is the routers' business. One thing goes the other way: a handler can ask for
//! its connection to be cut ([`Cut`]), because only the listener can do that.

mod authority;
mod connection;
mod origin;
mod serve;
#[cfg(test)]
mod tests;

pub use authority::{CertificateAuthority, TlsError, default_names};
pub use connection::Cut;
pub use origin::Origin;
pub use serve::{DRAIN, serve};
pub use tokio_rustls::TlsAcceptor;
