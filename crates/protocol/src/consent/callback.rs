//! What a browser brings to the callback: a code, an admin's yes, or an error (entra.md §3.1 to §3.5).
//!
//! Never lenient with what decides: a parameter that stands twice, a state that none of ours can be, bytes that are no
//! text, all that is refused. Never more than [`MAX_CALLBACK_QUERY`] bytes are looked at. `error` comes first:
//! `admin_consent=True` also stands on failures.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::entra::EntraError;
use crate::ids::TenantId;
use crate::secret::AuthorizationCode;

/// The longest query that is read, 16 KiB: a code has up to two, an error's description up to two more.
pub const MAX_CALLBACK_QUERY: usize = 16 * 1024;
/// The most parameters; eight are the most ever seen.
pub const MAX_CALLBACK_PARAMETERS: usize = 32;
/// The longest code that is taken.
const MAX_CODE: usize = 8 * 1024;
/// The length of a state: 32 bytes in base64url.
const STATE_LENGTH: usize = 43;

/// A `state`: 32 random bytes as base64url. Never logged: whoever knows it may end the flow from its own browser.
#[derive(Clone, PartialEq, Eq)]
pub struct StateText(String);

impl StateText {
    /// A new one.
    pub fn from_bytes(random: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(random))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let is_ours = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (text.len() == STATE_LENGTH && text.bytes().all(is_ours)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for StateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateText(redacted)")
    }
}

/// A callback that could be read.
#[derive(Debug, Clone)]
pub struct Callback {
    /// What binds it to a flow of ours.
    pub state: StateText,
    /// What it says.
    pub answer: Answer,
}

/// What a callback says.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A code to be redeemed.
    Code(AuthorizationCode),
    /// An admin said yes, somebody claims, and it is this tenant, somebody claims.
    AdminConsent {
        /// A hint and nothing more.
        claimed: TenantId,
    },
    /// It did not succeed.
    Error(EntraError),
}

/// Why a callback is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// Longer than anything Entra ID sends.
    #[error(
        "the callback's query is longer than {MAX_CALLBACK_QUERY} bytes or has more than {MAX_CALLBACK_PARAMETERS} parameters"
    )]
    TooLarge,
    /// A parameter stands twice, which Entra ID never does: one of them is somebody else's.
    #[error("the callback has a parameter twice")]
    Repeated,
    /// A parameter is no text, or not of the form it always has.
    #[error("the callback's {0} is malformed")]
    Malformed(&'static str),
    /// There is no state.
    #[error("the callback has no state")]
    NoState,
    /// There is a state and neither a code nor a tenant nor an error.
    #[error("the callback says nothing")]
    NoAnswer,
}

/// Reads the query of a callback, without its question mark.
///
/// # Errors
/// When it is not of the form that Entra ID sends; see [`CallbackFault`].
pub fn parse_callback(query: &str) -> Result<Callback, CallbackFault> {
    let parameters = Parameters::read(query)?;
    let state = parameters.text("state")?.ok_or(CallbackFault::NoState)?;
    let state = StateText::parse(&state).ok_or(CallbackFault::Malformed("state"))?;
    Ok(Callback { state, answer: parameters.answer()? })
}

/// Names decoded, values as they came.
struct Parameters<'q>(Vec<(String, &'q str)>);

impl<'q> Parameters<'q> {
    fn read(query: &'q str) -> Result<Self, CallbackFault> {
        if query.len() > MAX_CALLBACK_QUERY {
            return Err(CallbackFault::TooLarge);
        }
        let mut parameters: Vec<(String, &str)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_CALLBACK_PARAMETERS {
                return Err(CallbackFault::TooLarge);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or(CallbackFault::Malformed("parameter name"))?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(CallbackFault::Repeated);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    fn raw(&self, name: &str) -> Option<&'q str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// A parameter that decides: text, or refused. Empty is as good as absent.
    fn text(&self, name: &'static str) -> Result<Option<String>, CallbackFault> {
        let Some(raw) = self.raw(name).filter(|raw| !raw.is_empty()) else { return Ok(None) };
        decode(raw).map(Some).ok_or(CallbackFault::Malformed(name))
    }

    /// A parameter that only explains: whatever of it is text.
    fn prose(&self, name: &str) -> String {
        let raw = self.raw(name).unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(raw.as_bytes());
        pairs.next().map(|(text, _)| text.into_owned()).unwrap_or_default()
    }

    fn answer(&self) -> Result<Answer, CallbackFault> {
        if let Some(error) = self.text("error")? {
            let subcode = self.text("error_subcode")?;
            let error = EntraError::from_callback(
                &error,
                subcode.as_deref(),
                &self.prose("error_description"),
                &self.prose("error_uri"),
            );
            return Ok(Answer::Error(error));
        }
        if let Some(code) = self.text("code")? {
            let fits = code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_graphic());
            return if fits {
                Ok(Answer::Code(AuthorizationCode::new(&code)))
            } else {
                Err(CallbackFault::Malformed("code"))
            };
        }
        let said_yes = self.text("admin_consent")?.is_some_and(|yes| yes.eq_ignore_ascii_case("true"));
        match self.text("tenant")? {
            Some(tenant) if said_yes => {
                let claimed = tenant.parse().map_err(|_| CallbackFault::Malformed("tenant"))?;
                Ok(Answer::AdminConsent { claimed })
            }
            _ => Err(CallbackFault::NoAnswer),
        }
    }
}

/// Form decoding that refuses what it cannot decode: half an escape, bytes that are no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
