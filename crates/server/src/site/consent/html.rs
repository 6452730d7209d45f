//! The frame of every page, and the one way text gets into it.
//!
//! Never takes text as markup: [`Html`] is made of literals of this program and of text that has been escaped.

use std::fmt::{self, Display, Write as _};

/// Markup.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Our own markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Anybody's text, in an element or in a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a text cannot fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// `<tag>text</tag>`.
    pub(super) fn element(&mut self, open: &'static str, text: impl Display, close: &'static str) -> &mut Self {
        self.raw(open).text(text).raw(close).raw("\n")
    }

    /// The whole page.
    pub(super) fn into_page(self, title: &str, goes_on: bool) -> String {
        let mut page = Self::default();
        page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .element("<title>", title, "</title>")
            .raw("<link rel=\"stylesheet\" href=\"/consent/style.css\">\n");
        if goes_on {
            page.raw("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n")
                .raw("<script src=\"/consent/live.js\" defer></script>\n");
        }
        page.raw("</head>\n<body>\n<main id=\"main\">\n");
        page.0.push_str(&self.0);
        page.raw("</main>\n</body>\n</html>\n");
        page.0
    }
}

struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\"'><script>&").element("\"><b>", "</b>", "</b>");
        let expected = "<p title=\"&quot;&#39;&gt;&lt;script&gt;&amp;\"><b>&lt;/b&gt;</b>\n";
        assert_eq!(html.0, expected);
        assert!(html.into_page("<T>", false).contains("<title>&lt;T&gt;</title>"));
    }
}
