//! `GET audit/{content id}`: a blob, as a stream.
//!
//! Never builds a large body before the first byte goes out; small ones are made at once so that they have a length.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};
use protocol::ids::ContentType;

use super::gate::Caller;
use super::reply::{Refusal, RefusalBody};
use super::{ActivityApi, Asked};
use crate::faults::PoisonForm;
use crate::tls::Cut;
use crate::world::Found;
use crate::world::blob::Blob;
use crate::world::content::Content;
use crate::world::subscription::SubscriptionKey;

impl ActivityApi {
    pub(super) fn retrieve(self: &Arc<Self>, caller: &Caller, asked: &Asked) -> Result<Response<Body>, Refusal> {
        let id = &asked.target.content_id;
        let unknown = || Refusal::new(404, "AF20050", format!("The specified content ({id}) does not exist."));
        let invalid = || Refusal::new(400, "AF20052", format!("Blob key {id} in the url is invalid."));
        let (kind, whole, part) = match self.world.find_content(&caller.tenant, id, caller.now) {
            Found::Content { kind, whole, part } => (kind, whole, part),
            Found::Unknown => return Err(unknown()),
            Found::Malformed => return Err(invalid()),
        };
        if !self.may_see(caller, &kind, whole.created())? {
            return Err(unknown());
        }
        if caller.now >= part.expires() {
            let message = "Content requested with the key has expired. Content older than 7 days cannot be retrieved.";
            return Err(Refusal::new(400, "AF20051", message));
        }
        let is_whole = part.span() == whole.span();
        let whole_id = self.world.content_id(&caller.tenant, &kind, &whole);
        match self.world.poison(&caller.tenant, &kind, &whole_id) {
            Some(PoisonForm::ServerError) => return Err(Refusal::internal()),
            Some(PoisonForm::NotFound) => return Err(unknown()),
            Some(PoisonForm::InvalidId) => return Err(invalid()),
            Some(PoisonForm::Reset) => {
                let mut response = Refusal::bare(502, RefusalBody::Empty).into_response();
                response.extensions_mut().insert(Cut::Reset);
                return Ok(response);
            }
            Some(PoisonForm::Truncated) => {
                let response = self.blob(caller, &kind, part, is_whole, &asked.parts.headers);
                return Ok(super::broken::cut_after(response, 400, false));
            }
            None => {}
        }
        Ok(self.blob(caller, &kind, part, is_whole, &asked.parts.headers))
    }

    /// Whether a content of a type is in the caller's subscription.
    ///
    /// # Errors
    /// When it has none that is enabled.
    pub(super) fn may_see(&self, caller: &Caller, kind: &ContentType, created: i64) -> Result<bool, Refusal> {
        let key = SubscriptionKey { tenant: caller.tenant.id(), client: caller.client, kind: kind.clone() };
        let subscriptions = self.world.subscriptions();
        match subscriptions.find(&key) {
            Some(subscription) if subscription.enabled() => Ok(subscription.covers(created)),
            _ => Err(super::listing::not_enabled()),
        }
    }

    fn blob(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &ContentType,
        content: Content,
        whole: bool,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let feed = caller.tenant.feeds.iter().position(|feed| feed.kind == *kind).unwrap_or(0);
        let blob = Blob { tenant: Arc::clone(&caller.tenant), feed, content, whole, withheld: !caller.reads_dlp };
        let gzip = accepts_gzip(headers);
        let at_once = blob.content.len() <= Blob::AT_ONCE_MAX;
        let body = match (gzip, at_once) {
            (true, true) => Body::from(self.world.gzip_body(blob)),
            (true, false) => streamed(blob.gzip(&self.world)),
            (false, true) => Body::from(blob.text(&self.world).collect::<Vec<_>>().concat()),
            (false, false) => streamed(blob.text(&self.world)),
        };
        let mut response = Response::new(body);
        let names = response.headers_mut();
        names.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        if gzip {
            names.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            names.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }
}

fn streamed(chunks: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Body {
    Body::from_stream(stream::iter(chunks.map(|chunk| Ok::<_, std::convert::Infallible>(Bytes::from(chunk)))))
}

/// `Accept-Encoding` names gzip (or anything) without a weight of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|part| {
        let mut fields = part.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let refused = fields.any(|field| {
            let weight = field.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        });
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_when_the_client_takes_it() {
        let accepts = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip") && accepts("deflate, GZIP;q=0.5") && accepts("*"));
        assert!(!accepts("gzip;q=0") && !accepts("identity") && !accepts("br, gzip; q=0.0"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
