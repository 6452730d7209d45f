//! What the fault plan does to a request and to its answer.
//!
//! Never decides whether: that is [`crate::faults`]. Never sleeps on the world's clock: delays and slow bodies take
//! real
//! time, because they are about the network.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt as _, stream};
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::listing::{NEXT_PAGE, ThisPage};
use super::reply::{self, Refusal, RefusalBody};
use super::{Asked, gate};
use crate::faults::{Effect, ErrorBody, RefusedBody};
use crate::tls::Cut;

/// The answer that takes the place of the true one, when the effect is of that kind.
pub(super) fn instead(effect: &Effect, asked: &Asked) -> Option<Response<Body>> {
    let cut = |how: Cut| {
        let mut response = Refusal::bare(502, RefusalBody::Empty).into_response();
        response.extensions_mut().insert(how);
        *response.body_mut() = failing(Vec::new());
        response
    };
    Some(match effect {
        Effect::Throttle { status, retry_after, single_quotes } => {
            let publisher = asked.query.find("PublisherIdentifier").unwrap_or("00000000-0000-0000-0000-000000000000");
            let mut refusal = Refusal::throttled(gate::method_name(asked.target.operation), publisher, *status);
            if let (true, RefusalBody::Envelope { code, message }) = (*single_quotes, &refusal.body) {
                refusal.body = RefusalBody::SingleQuotes { code: code.clone(), message: message.clone() };
            }
            refusal.retry_after = *retry_after;
            refusal.into_response()
        }
        Effect::ServerError { status, body } => match body {
            ErrorBody::Html => Refusal::bare(*status, RefusalBody::Html),
            ErrorBody::Empty => Refusal::bare(*status, RefusalBody::Empty),
            ErrorBody::Envelope => Refusal { status: *status, ..Refusal::internal() },
        }
        .into_response(),
        Effect::Unauthorized(body) => match body {
            RefusedBody::Empty => Refusal::bare(401, RefusalBody::Empty),
            RefusedBody::Message => Refusal::denied(),
            RefusedBody::Envelope => Refusal::missing_role(&[]),
        }
        .into_response(),
        Effect::Reset => cut(Cut::Reset),
        Effect::Close => cut(Cut::Close),
        Effect::ErrorAsSuccess => {
            reply::json(reply::envelope("AF50000", "An internal error occurred. Retry the request."))
        }
        Effect::EmptySuccess => reply::empty(),
        _ => return None,
    })
}

/// The wait before a delayed answer.
pub(super) async fn wait(effect: Option<&Effect>) {
    if let Some(Effect::Delay(by)) = effect {
        tokio::time::sleep(*by).await;
    }
}

/// What the effect makes of the true answer.
pub(super) async fn damage(effect: &Effect, mut response: Response<Body>) -> Response<Body> {
    match effect {
        Effect::LostAnswer => {
            response.extensions_mut().insert(Cut::Reset);
            *response.body_mut() = failing(Vec::new());
            response
        }
        Effect::Truncate { share, clean } => truncate(response, *share, *clean),
        Effect::Slow(bytes_per_second) => slow(response, *bytes_per_second),
        Effect::ByteOrderMark if response.status().is_success() && is_plain(&response) => prepend_mark(response),
        Effect::NullUri if response.status().is_success() => null_uri(response).await,
        Effect::EmptyPage if response.status().is_success() => empty_page(response),
        _ => response,
    }
}

/// Lets `bytes` through; then the connection ends, or with `clean`, the body as if that were all of it.
pub(super) fn cut_after(response: Response<Body>, bytes: usize, clean: bool) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let kept = body.into_data_stream().scan(bytes, |left, chunk| {
        ready(match chunk {
            Ok(_) if *left == 0 => None,
            Ok(chunk) => {
                let kept = chunk.slice(..chunk.len().min(*left));
                *left -= kept.len();
                Some(Ok(kept))
            }
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let end = (!clean).then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    Response::from_parts(parts, Body::from_stream(kept.chain(stream::iter(end))))
}

/// Ends a body early: after a share of it when its length is known, after its first chunks when it is streamed.
fn truncate(response: Response<Body>, share: f64, clean: bool) -> Response<Body> {
    let length = hyper::body::Body::size_hint(response.body()).exact();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let bytes = match length {
        Some(length) => (length as f64 * share) as usize,
        None => 300_000,
    };
    cut_after(response, bytes, clean)
}

fn failing(start: Vec<u8>) -> Body {
    let error = Err(io::Error::from(io::ErrorKind::ConnectionReset));
    Body::from_stream(stream::iter([Ok(Bytes::from(start)), error]))
}

fn slow(response: Response<Body>, bytes_per_second: u32) -> Response<Body> {
    const PER_SECOND: u32 = 10;
    let step = usize::try_from((bytes_per_second / PER_SECOND).max(1)).unwrap_or(1);
    response.map(|body| {
        let steps = body.into_data_stream().flat_map(move |chunk| {
            let chunk = chunk.unwrap_or_default();
            let count = chunk.len().div_ceil(step);
            stream::iter((0..count).map(move |place| {
                let from = place * step;
                chunk.slice(from..(from + step).min(chunk.len()))
            }))
        });
        Body::from_stream(steps.then(|piece| async move {
            tokio::time::sleep(Duration::from_millis(u64::from(1000 / PER_SECOND))).await;
            Ok::<_, Infallible>(piece)
        }))
    })
}

fn is_plain(response: &Response<Body>) -> bool {
    !response.headers().contains_key(http::header::CONTENT_ENCODING)
}

fn prepend_mark(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let mark = stream::once(async { Ok(Bytes::from_static("\u{feff}".as_bytes())) });
    Response::from_parts(parts, Body::from_stream(mark.chain(body.into_data_stream())))
}

/// Listings are small and made here, so they are read whole.
async fn null_uri(response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let Ok(collected) = body.collect().await else { return Response::from_parts(parts, Body::empty()) };
    let text = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
    let name = "\"contentUri\":\"";
    let changed = text.split_once(name).and_then(|(before, rest)| {
        let (_, after) = rest.split_once('"')?;
        Some(format!("{before}\"contentUri\":null{after}"))
    });
    Response::from_parts(parts, Body::from(changed.unwrap_or(text)))
}

/// An empty page whose successor is the page that was asked for.
fn empty_page(mut response: Response<Body>) -> Response<Body> {
    let Some(ThisPage(uri)) = response.extensions().get::<ThisPage>().cloned() else { return response };
    if let Ok(value) = http::HeaderValue::from_str(&uri) {
        response.headers_mut().insert(NEXT_PAGE, value);
        *response.body_mut() = Body::from("[]");
    }
    response
}
