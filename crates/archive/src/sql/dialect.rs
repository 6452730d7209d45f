//! How the SQL text is parsed: the generic dialect, in which `->` and `->>` bind tighter than anything beside them.
//!
//! Never plans anything but the two arrows. With the generic precedence `raw ->> 'a' = 'b'` would mean
//! `raw ->> ('a' = 'b')`; here it, and `raw ->> 'Size'::bigint` too, mean what they look like.

use std::any::TypeId;

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::functions;

/// Above `::` (50), below the dot of `a.raw` (100).
const ARROW_PRECEDENCE: u8 = 60;

/// The dialect of `tenantry query`.
#[derive(Debug)]
pub(super) struct ArchiveDialect;

/// Says yes to what the generic dialect says yes to and a question about an archive may want.
macro_rules! supported {
    ($($method:ident)*) => { $(fn $method(&self) -> bool { true })* };
}

impl Dialect for ArchiveDialect {
    /// The parser then treats this as the generic dialect wherever it asks for a dialect by name.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        GenericDialect.is_identifier_part(character)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<std::result::Result<u8, ParserError>> {
        matches!(parser.peek_token_ref().token, Token::Arrow | Token::LongArrow).then_some(Ok(ARROW_PRECEDENCE))
    }

    supported! {
        supports_unicode_string_literal supports_group_by_expr supports_group_by_with_modifier
        supports_left_associative_joins_without_parens supports_pipe_operator
        supports_window_function_null_treatment_arg supports_dictionary_syntax
        supports_window_clause_named_window_reference supports_select_wildcard_except support_map_literal_syntax
        allow_extract_custom allow_extract_single_quotes supports_extract_comma_syntax
        supports_parens_around_table_factor supports_values_as_table_factor supports_explain_with_utility_options
        supports_limit_comma supports_from_first_select supports_projection_trailing_commas supports_try_convert
        supports_bitwise_shift_operators supports_struct_literal supports_nested_comments
        supports_string_escape_constant supports_array_typedef_with_brackets supports_filter_during_aggregation
        supports_select_wildcard_exclude supports_interval_options supports_select_wildcard_replace
        supports_select_wildcard_rename supports_comma_separated_trim
    }
}

/// How many operators the text has: each may put what stands around it one level deeper. What is no SQL has none, and the
/// parser says why.
pub(super) fn count_operators(sql: &str) -> usize {
    let tokens = Tokenizer::new(&ArchiveDialect, sql).tokenize().unwrap_or_default();
    tokens.iter().filter(|token| is_operator(token)).count()
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::IN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::CASE
                | Keyword::JOIN
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
        ),
        Token::Number(..) | Token::Char(_) | Token::Whitespace(_) | Token::Placeholder(_) | Token::EOF => false,
        Token::Comma | Token::LParen | Token::RParen | Token::LBrace | Token::RBrace | Token::RBracket => false,
        Token::Period | Token::SemiColon => false,
        // Every symbol that is left joins, prefixes or follows an expression; a literal is none.
        other => !is_literal(other),
    }
}

fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// Makes function calls of the two arrows.
#[derive(Debug)]
pub(super) struct ArrowPlanner;

impl ExprPlanner for ArrowPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let name = match expr.op {
            BinaryOperator::Arrow => functions::JSON,
            BinaryOperator::LongArrow => functions::TEXT,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let Some(function) = functions::udf(name) else { return Ok(PlannerResult::Original(expr)) };
        let call = ScalarFunction::new_udf(function, vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}
