//! The arguments of a function, row by row.
//!
//! Never copies a column: texts are lent from where they lie.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::ColumnarValue;

use crate::sql::json::{Step, parse_path};

/// A text argument: one column, or one literal for all rows.
pub(super) enum Texts {
    Column(ArrayRef),
    Literal(Option<String>),
}

impl Texts {
    pub(super) fn of(argument: &ColumnarValue) -> Result<Self> {
        match argument {
            ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
                Some(text) => Ok(Self::Literal(text.map(str::to_owned))),
                None if scalar.is_null() => Ok(Self::Literal(None)),
                None => exec_err!("text was expected, not {scalar}"),
            },
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Utf8 | DataType::Utf8View => Ok(Self::Column(Arc::clone(array))),
                _ => Ok(Self::Column(cast(array, &DataType::Utf8)?)),
            },
        }
    }

    pub(super) fn at(&self, row: usize) -> Option<&str> {
        match self {
            Self::Literal(text) => text.as_deref(),
            Self::Column(array) if array.is_null(row) => None,
            Self::Column(array) => match array.as_string_opt::<i32>() {
                Some(texts) => Some(texts.value(row)),
                None => array.as_string_view_opt().map(|texts| texts.value(row)),
            },
        }
    }
}

/// The path of each row. Nearly always one literal, which is read once per batch.
pub(super) enum Paths {
    Literal(Arc<Vec<Step>>),
    Columns(Vec<Option<Arc<Vec<Step>>>>),
}

impl Paths {
    pub(super) fn of(arguments: &[ColumnarValue], rows: usize) -> Result<Self> {
        let mut literal = Vec::new();
        for argument in arguments {
            match argument {
                ColumnarValue::Scalar(scalar) if !scalar.is_null() => literal.append(&mut steps_of(scalar)?),
                _ => return Self::of_columns(arguments, rows),
            }
        }
        Ok(Self::Literal(Arc::new(literal)))
    }

    /// Here the path is data, so one that cannot be read costs its row only.
    fn of_columns(arguments: &[ColumnarValue], rows: usize) -> Result<Self> {
        let arrays = arguments.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut paths = Vec::with_capacity(rows);
        for row in 0..rows {
            let steps = arrays.iter().map(|array| {
                if array.is_null(row) {
                    return None;
                }
                if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
                    return Some(vec![Step::Index(numbers.value(row))]);
                }
                parse_path(array.as_string_opt::<i32>()?.value(row)).ok()
            });
            paths.push(steps.collect::<Option<Vec<_>>>().map(|steps| Arc::new(steps.concat())));
        }
        Ok(Self::Columns(paths))
    }

    pub(super) fn at(&self, row: usize) -> Option<&Vec<Step>> {
        match self {
            Self::Literal(path) => Some(path),
            Self::Columns(paths) => paths.get(row)?.as_deref(),
        }
    }
}

fn steps_of(literal: &ScalarValue) -> Result<Vec<Step>> {
    if let ScalarValue::Int64(Some(index)) = literal {
        return Ok(vec![Step::Index(*index)]);
    }
    match literal.try_as_str() {
        Some(Some(text)) => parse_path(text).map_err(DataFusionError::Plan),
        _ => exec_err!("a path was expected, not {literal}"),
    }
}
