//! Turns a place in a text into lines that a person can read.

use crate::CodeFrame;

/// Longest part of a source line that an error repeats, in characters.
const MAX_EXCERPT: usize = 120;

/// Describes the place `offset` bytes into `text`.
pub(crate) fn frame(path: &str, text: &str, offset: usize, message: impl Into<String>) -> CodeFrame {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = text[start..offset].chars().count() + 1;
    let mut excerpt = String::new();
    for (number, content) in text.lines().enumerate().skip(line.saturating_sub(2)).take(2) {
        let number = number + 1;
        if number > line {
            break;
        }
        let skip = if number == line { column.saturating_sub(MAX_EXCERPT / 2) } else { 0 };
        let shown: String = content.chars().skip(skip).take(MAX_EXCERPT).collect();
        excerpt.push_str(&format!("{number:>5} | {shown}\n"));
        if number == line {
            excerpt.push_str(&format!("      | {}^", " ".repeat(column - 1 - skip.min(column - 1))));
        }
    }
    CodeFrame { path: path.to_owned(), line, column, message: message.into(), excerpt }
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn points_at_the_place() {
        let frame = frame("a.js", "let a;\nlet é = ;\n", 16, "Expression expected");
        assert_eq!((frame.line, frame.column), (2, 9));
        assert_eq!(frame.excerpt, "    1 | let a;\n    2 | let é = ;\n      |         ^");
    }

    #[test]
    fn shows_a_part_of_a_long_line() {
        let text = "x".repeat(100_000);
        let frame = frame("a.js", &text, 50_000, "no");
        assert!(frame.excerpt.len() < 400, "{}", frame.excerpt.len());
        assert_eq!(frame.column, 50_001);
        assert!(super::frame("a.js", "", 9, "no").line == 1);
    }
}
