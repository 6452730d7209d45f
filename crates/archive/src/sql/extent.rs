//! Of whom and from when the rows of a statement can be: what the ledger is asked for before a file is opened.
//!
//! Never narrower than the statement: what is not understood stands for everything. What is too wide costs time only,
//! because [`super::table`] looks at each segment again.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use protocol::ids::TenantId;

use super::table::{CREATION_TIME, TABLE, TENANT_ID};

const DAY_SECONDS: i64 = 86_400;

/// Which segments can hold rows that a statement reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Those of these tenants; of every tenant where it is `None`.
    pub tenants: Option<BTreeSet<TenantId>>,
    /// Those that have a record with a `creation_time` in these Unix seconds; all of them, and those without a time, where
    /// it is `None`.
    pub seconds: Option<RangeInclusive<i64>>,
}

impl Extent {
    /// Every segment.
    pub const EVERYTHING: Self = Self { tenants: None, seconds: None };

    /// No segment.
    pub const NOTHING: Self = Self { tenants: Some(BTreeSet::new()), seconds: None };

    /// Whether no segment can be within.
    pub fn is_nothing(&self) -> bool {
        self.tenants.as_ref().is_some_and(BTreeSet::is_empty)
            || self.seconds.as_ref().is_some_and(RangeInclusive::is_empty)
    }

    /// What the table is read for by an optimized plan, wherever the plan names it.
    pub(super) fn of_plan(plan: &LogicalPlan) -> Result<Self> {
        let mut extent = Self::NOTHING;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && scan.table_name.table() == TABLE
            {
                let scanned = scan.filters.iter().map(Self::of_filter).fold(Self::EVERYTHING, Self::and);
                extent = std::mem::replace(&mut extent, Self::NOTHING).or(scanned);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(extent)
    }

    /// Where rows can be for which the filter is true.
    fn of_filter(filter: &Expr) -> Self {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Self::of_filter(left).and(Self::of_filter(right))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Self::of_filter(left).or(Self::of_filter(right))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
                (column, Expr::Literal(value, _)) => Self::of_comparison(column, *op, value),
                (Expr::Literal(value, _), column) => {
                    op.swap().map_or(Self::EVERYTHING, |op| Self::of_comparison(column, op, value))
                }
                _ => Self::EVERYTHING,
            },
            Expr::Between(between) if !between.negated => match (&*between.low, &*between.high) {
                (Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    let from = Self::of_comparison(&between.expr, Operator::GtEq, low);
                    from.and(Self::of_comparison(&between.expr, Operator::LtEq, high))
                }
                _ => Self::EVERYTHING,
            },
            Expr::InList(list) if !list.negated => list.list.iter().fold(Self::NOTHING, |extent, value| match value {
                Expr::Literal(value, _) => extent.or(Self::of_comparison(&list.expr, Operator::Eq, value)),
                _ => Self::EVERYTHING,
            }),
            _ => Self::EVERYTHING,
        }
    }

    fn of_comparison(column: &Expr, op: Operator, value: &ScalarValue) -> Self {
        match column {
            Expr::Column(column) if column.name == TENANT_ID && op == Operator::Eq => {
                match value.try_as_str().flatten() {
                    Some(text) => Self { tenants: Some(tenant(text).into_iter().collect()), seconds: None },
                    None => Self::EVERYTHING,
                }
            }
            Expr::Column(column) if column.name == CREATION_TIME => Self::of_times(op, value),
            // Another unit or the date alone: what is earlier stays earlier.
            Expr::Cast(cast) if is_time(&cast.expr) => Self::of_times(op, value),
            Expr::TryCast(cast) if is_time(&cast.expr) => Self::of_times(op, value),
            _ => Self::EVERYTHING,
        }
    }

    /// Bounds to the second, so that `>` and `>=` are the same here.
    fn of_times(op: Operator, value: &ScalarValue) -> Self {
        let Some((first, last)) = seconds(value) else { return Self::EVERYTHING };
        let seconds = match op {
            Operator::Eq => first..=last,
            Operator::Gt | Operator::GtEq => first..=i64::MAX,
            Operator::Lt | Operator::LtEq => i64::MIN..=last,
            _ => return Self::EVERYTHING,
        };
        Self { tenants: None, seconds: Some(seconds) }
    }

    fn and(self, other: Self) -> Self {
        let tenants = match (self.tenants, other.tenants) {
            (Some(left), Some(right)) => Some(left.intersection(&right).copied().collect()),
            (left, right) => left.or(right),
        };
        let seconds = match (self.seconds, other.seconds) {
            (Some(left), Some(right)) => Some(*left.start().max(right.start())..=*left.end().min(right.end())),
            (left, right) => left.or(right),
        };
        Self { tenants, seconds }
    }

    /// Both, and what lies between them.
    fn or(self, other: Self) -> Self {
        if self.is_nothing() {
            return other;
        }
        if other.is_nothing() {
            return self;
        }
        let tenants = self.tenants.zip(other.tenants).map(|(mut left, right)| {
            left.extend(right);
            left
        });
        let seconds = self.seconds.zip(other.seconds);
        let seconds = seconds.map(|(left, right)| *left.start().min(right.start())..=*left.end().max(right.end()));
        Self { tenants, seconds }
    }
}

/// The tenant that the column's text names. It is compared as text, so that another spelling names nobody.
fn tenant(text: &str) -> Option<TenantId> {
    text.parse().ok().filter(|tenant: &TenantId| tenant.to_string() == text)
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == CREATION_TIME)
}

/// The first and the last second that a point of time, or a date, is compared with.
fn seconds(value: &ScalarValue) -> Option<(i64, i64)> {
    let second = match value {
        ScalarValue::TimestampSecond(Some(time), _) => *time,
        ScalarValue::TimestampMillisecond(Some(time), _) => time.div_euclid(1_000),
        ScalarValue::TimestampMicrosecond(Some(time), _) => time.div_euclid(1_000_000),
        ScalarValue::TimestampNanosecond(Some(time), _) => time.div_euclid(1_000_000_000),
        ScalarValue::Date32(Some(day)) => {
            let first = i64::from(*day) * DAY_SECONDS;
            return Some((first, first + DAY_SECONDS - 1));
        }
        _ => return None,
    };
    Some((second, second))
}
