//! Reads the fields that every record shares out of one record's bytes, in one pass and without a parser's tree.
//!
//! Never fails and never changes the record: a field that is missing, mistyped or unreadable is `None` here and still
//! there in the bytes. Bytes come from [`crate::split`]; the fields become the archive's columns.
//!
//! What is read from where (audit-schema.md §1, §9, §10):
//!
//! * A member name is looked up in its documented letter case first and in any letter case after that.
//! * Of several members of the same name the **last** one counts, as in most JSON readers, even when it is `null`.
//! * Text columns take texts, and numbers and booleans as they are written. `null`, objects and arrays are `None`. An
//!   empty text stays an empty text, but an empty `Id` is none.
//! * Number columns take numbers and texts that hold one, `RecordType` also a record type's name.
//! * `client_ip` comes from `ClientIP`, else `ClientIPAddress`, else `ActorIpAddress`; see [`address`] for its form.
//! * `app_id` comes from `AppId`, else `ApplicationId`, `ClientAppId`, `AppAccessContext.ClientAppId`;
//!   `session_id` from `SessionId`, else `AppAccessContext.AADSessionId`, else the entry `SessionId` of
//!   `DeviceProperties`. An empty one is passed over when a later one is not.
//! * A surrogate without its pair becomes U+FFFD, since no UTF-8 text can hold it.

pub mod address;
mod members;
mod values;

use std::borrow::Cow;

use protocol::time::Timestamp;

use self::members::{Members, RawValue, elements, is_named};
use crate::identity::{Identity, RecordId};

/// The common fields of one record; `None` where the record has none that can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View<'a> {
    /// `Id`: a GUID as a rule, but any text is taken.
    pub id: Option<Cow<'a, str>>,
    /// `CreationTime`, in UTC; what has no zone is UTC.
    pub creation_time: Option<Timestamp>,
    /// `RecordType`. Its name is a label: [`crate::record_type::name`].
    pub record_type: Option<i32>,
    /// `Operation`.
    pub operation: Option<Cow<'a, str>>,
    /// `Workload`.
    pub workload: Option<Cow<'a, str>>,
    /// `UserId`.
    pub user_id: Option<Cow<'a, str>>,
    /// `UserKey`.
    pub user_key: Option<Cow<'a, str>>,
    /// `UserType`.
    pub user_type: Option<i32>,
    /// `OrganizationId`, as it is written.
    pub organization_id: Option<Cow<'a, str>>,
    /// `ObjectId`.
    pub object_id: Option<Cow<'a, str>>,
    /// The client's address without port, brackets and zone when there is one, else the text found in its place.
    pub client_ip: Option<Cow<'a, str>>,
    /// `ResultStatus`.
    pub result_status: Option<Cow<'a, str>>,
    /// The application's id.
    pub app_id: Option<Cow<'a, str>>,
    /// The sign-in session's id.
    pub session_id: Option<Cow<'a, str>>,
}

impl<'a> View<'a> {
    /// Reads a record from its bytes. Works on any bytes at all; what cannot be read is `None`.
    pub fn read(record: &'a [u8]) -> Self {
        let found = Found::collect(record);
        let text = |field| found.value(field).and_then(values::text);
        Self {
            id: text(Field::Id).filter(|id| !id.trim_ascii().is_empty()),
            creation_time: found.value(Field::CreationTime).and_then(values::time),
            record_type: found.value(Field::RecordType).and_then(values::record_type),
            operation: text(Field::Operation),
            workload: text(Field::Workload),
            user_id: text(Field::UserId),
            user_key: text(Field::UserKey),
            user_type: found.value(Field::UserType).and_then(values::number),
            organization_id: text(Field::OrganizationId),
            object_id: text(Field::ObjectId),
            client_ip: found.client_ip(),
            result_status: text(Field::ResultStatus),
            app_id: found.app_id(),
            session_id: found.session_id(),
        }
    }

    /// What tells this record from others.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            id: self.id.as_deref().and_then(RecordId::new),
            second: self.creation_time.map(|time| time.timestamp()),
        }
    }
}

/// The members that the view is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    CreationTime,
    RecordType,
    Operation,
    Workload,
    UserId,
    UserKey,
    UserType,
    OrganizationId,
    ObjectId,
    ClientIp,
    ClientIpAddress,
    ActorIpAddress,
    ResultStatus,
    AppId,
    ApplicationId,
    ClientAppId,
    SessionId,
    AppAccessContext,
    DeviceProperties,
}

impl Field {
    const COUNT: usize = Self::DeviceProperties as usize + 1;

    /// The field a member name may stand for, and how Microsoft writes that name.
    ///
    /// Length and first letter together tell all of them apart (a test says so), so that the many other members of a
    /// record cost one look.
    fn of_shape(length: usize, first: u8) -> Option<(Self, &'static [u8])> {
        Some(match (length, first | 0x20) {
            (2, b'i') => (Self::Id, b"Id"),
            (5, b'a') => (Self::AppId, b"AppId"),
            (6, b'u') => (Self::UserId, b"UserId"),
            (7, b'u') => (Self::UserKey, b"UserKey"),
            (8, b'c') => (Self::ClientIp, b"ClientIP"),
            (8, b'o') => (Self::ObjectId, b"ObjectId"),
            (8, b'u') => (Self::UserType, b"UserType"),
            (8, b'w') => (Self::Workload, b"Workload"),
            (9, b'o') => (Self::Operation, b"Operation"),
            (9, b's') => (Self::SessionId, b"SessionId"),
            (10, b'r') => (Self::RecordType, b"RecordType"),
            (11, b'c') => (Self::ClientAppId, b"ClientAppId"),
            (12, b'c') => (Self::CreationTime, b"CreationTime"),
            (12, b'r') => (Self::ResultStatus, b"ResultStatus"),
            (13, b'a') => (Self::ApplicationId, b"ApplicationId"),
            (14, b'a') => (Self::ActorIpAddress, b"ActorIpAddress"),
            (14, b'o') => (Self::OrganizationId, b"OrganizationId"),
            (15, b'c') => (Self::ClientIpAddress, b"ClientIPAddress"),
            (16, b'a') => (Self::AppAccessContext, b"AppAccessContext"),
            (16, b'd') => (Self::DeviceProperties, b"DeviceProperties"),
            _ => return None,
        })
    }
}

/// The raw values of the fields, as found in one pass.
struct Found<'a> {
    values: [Option<RawValue<'a>>; Field::COUNT],
}

impl<'a> Found<'a> {
    fn collect(record: &'a [u8]) -> Self {
        let mut values = [None; Field::COUNT];
        // Bit *i*: the value of field *i* stood under the name in its documented letter case.
        let mut exact: u32 = 0;
        for member in Members::of(record) {
            let name = member.name();
            let Some((field, documented)) = name.first().and_then(|first| Field::of_shape(name.len(), *first)) else {
                continue;
            };
            let bit = 1 << field as u32;
            if *name == *documented {
                exact |= bit;
            } else if exact & bit != 0 || !name.eq_ignore_ascii_case(documented) {
                continue;
            }
            values[field as usize] = Some(member.value);
        }
        Self { values }
    }

    fn value(&self, field: Field) -> Option<RawValue<'a>> {
        self.values[field as usize]
    }

    fn text(&self, field: Field) -> Option<Cow<'a, str>> {
        self.value(field).and_then(values::text)
    }

    fn client_ip(&self) -> Option<Cow<'a, str>> {
        [Field::ClientIp, Field::ClientIpAddress, Field::ActorIpAddress]
            .into_iter()
            .find_map(|field| address::normalised(self.text(field)?))
    }

    fn app_id(&self) -> Option<Cow<'a, str>> {
        first_filled([
            &|| self.text(Field::AppId),
            &|| self.text(Field::ApplicationId),
            &|| self.text(Field::ClientAppId),
            &|| self.context_text("ClientAppId"),
        ])
    }

    fn session_id(&self) -> Option<Cow<'a, str>> {
        first_filled([&|| self.text(Field::SessionId), &|| self.context_text("AADSessionId"), &|| {
            self.device_property("SessionId")
        }])
    }

    /// A member of `AppAccessContext`, which the documentation calls a collection and the wire makes an object.
    fn context_text(&self, wanted: &str) -> Option<Cow<'a, str>> {
        let context = self.value(Field::AppAccessContext)?.bytes;
        match context.first()? {
            b'[' => elements(context).find_map(|element| member_text(element, wanted)),
            _ => member_text(context, wanted),
        }
    }

    /// The `Value` of the entry of `DeviceProperties` that has this `Name`.
    fn device_property(&self, wanted: &str) -> Option<Cow<'a, str>> {
        elements(self.value(Field::DeviceProperties)?.bytes).find_map(|entry| {
            let name = member_text(entry, "Name")?;
            if name.eq_ignore_ascii_case(wanted) { member_text(entry, "Value") } else { None }
        })
    }
}

/// The text of an object's member: the last of the exact name, else the last of the name in any letter case.
fn member_text<'a>(object: &'a [u8], wanted: &str) -> Option<Cow<'a, str>> {
    let (mut exact, mut folded) = (None, None);
    for member in Members::of(object) {
        if is_named(&member, wanted.as_bytes()) {
            exact = Some(member.value);
        } else if member.name().eq_ignore_ascii_case(wanted.as_bytes()) {
            folded = Some(member.value);
        }
    }
    values::text(exact.or(folded)?)
}

/// The first candidate that is neither missing nor empty; when all are, the first that is there at all.
fn first_filled<'a, const N: usize>(candidates: [&dyn Fn() -> Option<Cow<'a, str>>; N]) -> Option<Cow<'a, str>> {
    let mut empty = None;
    for candidate in candidates {
        match candidate() {
            Some(text) if !text.is_empty() => return Some(text),
            found => empty = empty.or(found),
        }
    }
    empty
}
