//! The SQL functions that read into `raw`, or into any other text that holds JSON.
//!
//! They never fail a query because of what a record holds: what is not there, not JSON or not of that type is NULL.
//! Only a path written wrongly into the query itself is an error. [`super::json`] does the reading.
//!
//! `path` is one argument such as `'Actor[0].ID'`, or several that are taken one after the other, each a path or an
//! element's number: `json_text(raw, 'Actor', 0, 'ID')`. A leading `$.` is accepted. Elements count from 0, and from -1
//! backwards; a name with dots or brackets in it is written `['odd.name']`. Names match exactly first and without regard to
//! ASCII letter case second. Of members with the same name the last one wins.
//!
//! | function | gives |
//! | --- | --- |
//! | `json_text(json, path…)`, `json_get_str`, `json ->> path` | the value as text: a string decoded, a number digit by digit, an object or array as its JSON |
//! | `json_get(json, path…)`, `json -> path` | the value's JSON as it stands, a string with its quotes |
//! | `json_get_int(json, path…)` | a whole number within 64 bits, also one in quotes |
//! | `json_get_float(json, path…)` | a number, also one in quotes |
//! | `json_get_bool(json, path…)` | true or false, also as `"True"`, `"false"`, 1 or 0 |
//! | `json_length(json, path…)` | the number of elements or members |
//! | `json_has(json, path…)`, `json_contains` | whether something, be it null, stands there |
//! | `json_type(json, path…)` | `object`, `array`, `string`, `number`, `boolean` or `null` |
//! | `json_keys(json, path…)` | the names of an object's members, as a list |
//! | `json_elements(json, path…)` | the elements of an array, as a list of JSON texts for `unnest` |
//! | `json_nv(json, list, name[, member])` | from a list of `{Name, Value}`: the value of the first element of that name |
//! | `json_parse(text)` | the text itself if all of it is JSON |

mod arguments;
mod rows;
mod udf;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use self::udf::JsonFunction;

/// One line of `tenantry query --functions`.
#[derive(Clone, Copy, Debug)]
pub struct FunctionDescription {
    /// How it is called.
    pub usage: &'static str,
    /// What it gives.
    pub gives: &'static str,
    /// A query's piece that uses it.
    pub example: &'static str,
}

/// The functions for JSON, in the order a reader meets them.
pub fn describe() -> impl Iterator<Item = FunctionDescription> {
    FUNCTIONS.iter().map(|function| function.description)
}

/// What a function computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Task {
    Text,
    Json,
    Int,
    Float,
    Bool,
    Length,
    Has,
    Type,
    Keys,
    Elements,
    NameValue,
    Parse,
}

struct Function {
    name: &'static str,
    alias: Option<&'static str>,
    task: Task,
    description: FunctionDescription,
}

const fn function(
    name: &'static str,
    alias: Option<&'static str>,
    task: Task,
    usage: &'static str,
    gives: &'static str,
    example: &'static str,
) -> Function {
    Function { name, alias, task, description: FunctionDescription { usage, gives, example } }
}

/// The name `->>` stands for.
pub(super) const TEXT: &str = "json_text";
/// The name `->` stands for.
pub(super) const JSON: &str = "json_get";

const FUNCTIONS: [Function; 12] = [
    function(
        TEXT,
        Some("json_get_str"),
        Task::Text,
        "json_text(json, path…)  or  json ->> path",
        "the value as text: a string decoded, a number digit by digit, an object or array as its JSON",
        "raw ->> 'ModifiedProperties[0].Name'",
    ),
    function(
        JSON,
        None,
        Task::Json,
        "json_get(json, path…)  or  json -> path",
        "the value's JSON as it stands, a string with its quotes",
        "raw -> 'Actor' ->> 0",
    ),
    function(
        "json_get_int",
        None,
        Task::Int,
        "json_get_int(json, path…)",
        "a whole number within 64 bits, also one in quotes",
        "json_get_int(raw, 'RecordType')",
    ),
    function(
        "json_get_float",
        None,
        Task::Float,
        "json_get_float(json, path…)",
        "a number, also one in quotes",
        "json_get_float(raw, 'Location.Latitude')",
    ),
    function(
        "json_get_bool",
        None,
        Task::Bool,
        "json_get_bool(json, path…)",
        "true or false, also as \"True\", \"false\", 1 or 0",
        "json_get_bool(raw, 'ExternalAccess')",
    ),
    function(
        "json_length",
        None,
        Task::Length,
        "json_length(json, path…)",
        "the number of elements or members",
        "json_length(raw, 'ModifiedProperties') > 3",
    ),
    function(
        "json_has",
        Some("json_contains"),
        Task::Has,
        "json_has(json, path…)",
        "whether something, be it null, stands there",
        "json_has(raw, 'DeviceProperties')",
    ),
    function(
        "json_type",
        None,
        Task::Type,
        "json_type(json, path…)",
        "object, array, string, number, boolean or null",
        "json_type(raw, 'Parameters')",
    ),
    function(
        "json_keys",
        None,
        Task::Keys,
        "json_keys(json, path…)",
        "the names of an object's members, as a list",
        "SELECT DISTINCT unnest(json_keys(raw)) FROM audit",
    ),
    function(
        "json_elements",
        None,
        Task::Elements,
        "json_elements(json, path…)",
        "the elements of an array, as a list of JSON texts for unnest",
        "SELECT id, unnest(json_elements(raw, 'Target')) ->> 'ID' FROM audit",
    ),
    function(
        "json_nv",
        None,
        Task::NameValue,
        "json_nv(json, list, name[, member])",
        "from a list of {Name, Value} (or Key): the Value, or NewValue, or that member, of the first element of that name",
        "json_nv(raw, 'ExtendedProperties', 'UserAgent')",
    ),
    function(
        "json_parse",
        None,
        Task::Parse,
        "json_parse(text)",
        "the text itself if all of it is JSON, otherwise NULL",
        "json_parse(raw ->> 'Data') ->> 'f3u'",
    ),
];

/// All of them, ready to be registered.
pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS.iter().map(|function| Arc::new(ScalarUDF::from(JsonFunction::new(function)))).collect()
}

/// The one behind `name`, one of [`TEXT`] and [`JSON`].
pub(super) fn udf(name: &str) -> Option<Arc<ScalarUDF>> {
    let function = FUNCTIONS.iter().find(|function| function.name == name)?;
    Some(Arc::new(ScalarUDF::from(JsonFunction::new(function))))
}
