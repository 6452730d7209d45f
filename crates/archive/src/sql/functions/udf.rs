//! The functions as DataFusion calls them: arguments checked while planning, rows computed batch by batch.
//!
//! Never fails because of a row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Paths, Texts};
use super::rows::{Column, Found};
use super::{Function, Task};
use crate::sql::json::parse_path;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonFunction {
    name: &'static str,
    aliases: Vec<String>,
    task: Task,
    usage: &'static str,
    signature: Signature,
}

impl JsonFunction {
    pub(super) fn new(function: &Function) -> Self {
        Self {
            name: function.name,
            aliases: function.alias.into_iter().map(str::to_owned).collect(),
            task: function.task,
            usage: function.description.usage,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let fits = match self.task {
            Task::Parse => count == 1,
            Task::NameValue => count == 3 || count == 4,
            _ => count >= 1,
        };
        if fits { Ok(()) } else { plan_err!("{} does not take {count} arguments; use {}", self.name, self.usage) }
    }

    /// Whether the argument at that place is part of a path (and not a name that is compared).
    fn is_path(&self, place: usize) -> bool {
        place > 0 && (self.task != Task::NameValue || place == 1)
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.check_count(arg_types.len())?;
        let coerce = |(place, data_type): (usize, &DataType)| match data_type {
            DataType::Utf8View if place == 0 => Ok(DataType::Utf8View),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(DataType::Utf8),
            DataType::Dictionary(_, value) if value.is_string() => Ok(DataType::Utf8),
            whole if whole.is_integer() && self.is_path(place) => Ok(DataType::Int64),
            other if place == 0 => {
                plan_err!("{} reads JSON text such as raw, not {other}; use {}", self.name, self.usage)
            }
            other => plan_err!("{} does not take {other} as argument {}; use {}", self.name, place + 1, self.usage),
        };
        arg_types.iter().enumerate().map(coerce).collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.task {
            Task::Text | Task::Json | Task::Type | Task::NameValue | Task::Parse => DataType::Utf8,
            Task::Int | Task::Length => DataType::Int64,
            Task::Float => DataType::Float64,
            Task::Bool | Task::Has => DataType::Boolean,
            Task::Keys | Task::Elements => DataType::new_list(DataType::Utf8, true),
        })
    }

    /// Refuses a path literal that cannot be read while the query is planned, before any file is opened.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        for (place, literal) in args.scalar_arguments.iter().enumerate() {
            if let (true, Some(literal)) = (self.is_path(place), literal)
                && let Some(Some(text)) = literal.try_as_str()
                && let Err(problem) = parse_path(text)
            {
                return plan_err!("{}: {problem}", self.name);
            }
        }
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check_count(args.args.len())?;
        let rows = args.number_rows;
        let Some((json, others)) = args.args.split_first() else { return exec_err!("{} needs an argument", self.name) };
        let json = Texts::of(json)?;
        let (path_arguments, names) = match self.task {
            Task::NameValue => others.split_at(1.min(others.len())),
            _ => (others, [].as_slice()),
        };
        let paths = Paths::of(path_arguments, rows)?;
        let names = names.iter().map(Texts::of).collect::<Result<Vec<_>>>()?;
        let mut column = Column::for_task(self.task, rows);
        for row in 0..rows {
            let found = json.at(row).zip(paths.at(row)).map(|(text, path)| Found {
                text,
                path: path.as_slice(),
                names: &names,
                row,
            });
            column.push(self.task, found);
        }
        Ok(ColumnarValue::Array(column.finish()))
    }
}
