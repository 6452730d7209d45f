#![doc = include_str!("../README.md")]

pub mod identity;
pub mod record_type;
mod scan;
pub mod split;
mod text;
pub mod view;

pub use identity::{Identity, RecordId};
pub use split::{Ended, Item, Limits, NotARecordReason, Part, SplitError, Splitter, split_all};
pub use text::RecordText;
pub use view::View;
