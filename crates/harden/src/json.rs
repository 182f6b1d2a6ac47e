//! JSON as text: where its strings stand, and JSON with comments.

use std::ops::Range;

/// A JSON value with the places of its strings.
#[derive(Debug)]
pub(crate) enum Node {
    Object(Vec<(Text, Node)>),
    Array(Vec<Node>),
    Text(Text),
    Other,
}

/// A string and where it stands, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) at: Range<usize>,
}

impl Node {
    /// Reads `text`, which must be JSON.
    pub(crate) fn read(text: &str) -> Option<Self> {
        // Checks the syntax, and that it is not nested deeper than this file's recursion can follow.
        serde_json::from_str::<serde_json::Value>(text).ok()?;
        Reader { text, at: 0 }.value()
    }

    pub(crate) fn members(&self) -> &[(Text, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = rest.iter().take_while(|byte| b" \t\r\n:,".contains(byte)).count();
        self.at += blank;
        self.text.as_bytes().get(self.at).copied()
    }

    fn value(&mut self) -> Option<Node> {
        match self.peek()? {
            b'{' => {
                self.at += 1;
                let mut members = Vec::new();
                while self.peek()? != b'}' {
                    members.push((self.string()?, self.value()?));
                }
                self.at += 1;
                Some(Node::Object(members))
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                while self.peek()? != b']' {
                    items.push(self.value()?);
                }
                self.at += 1;
                Some(Node::Array(items))
            }
            b'"' => self.string().map(Node::Text),
            _ => {
                let rest = &self.text.as_bytes()[self.at..];
                self.at += rest.iter().take_while(|byte| !b" \t\r\n,]}".contains(byte)).count();
                Some(Node::Other)
            }
        }
    }

    fn string(&mut self) -> Option<Text> {
        self.peek()?;
        let start = self.at;
        let mut escaped = false;
        for byte in self.text.as_bytes()[start + 1..].iter() {
            self.at += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        self.at += 1;
        let at = start..self.at;
        let value = serde_json::from_str(self.text.get(at.clone())?).ok()?;
        Some(Text { value, at })
    }
}

/// Turns JSON with comments and trailing commas, as `tsconfig.json` is written, into JSON of the same length.
pub(crate) fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut comma = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                comma = None;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'/' if matches!(bytes.get(at + 1), Some(b'/' | b'*')) => {
                let rest = &bytes[at..];
                let length = if rest[1] == b'/' {
                    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
                } else {
                    rest.windows(2).skip(2).position(|end| end == b"*/").map_or(rest.len(), |end| end + 4)
                };
                bytes[at..at + length]
                    .iter_mut()
                    .filter(|byte| **byte != b'\n')
                    .for_each(|byte| *byte = b' ');
                at += length.saturating_sub(1);
            }
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => comma = None,
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_strings_where_they_stand() {
        let text = r#" {"a\"b": ["x", 1, {"c": true}], "d":"\u0041" }"#;
        let node = Node::read(text).expect("json");
        let [(key, Node::Array(items)), (_, Node::Text(value))] = node.members() else { panic!("{node:?}") };
        assert_eq!((key.value.as_str(), &text[key.at.clone()]), ("a\"b", r#""a\"b""#));
        assert_eq!((value.value.as_str(), &text[value.at.clone()]), ("A", r#""\u0041""#));
        assert_eq!(items.len(), 3);
        assert!(Node::read("{").is_none());
        assert!(Node::read(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn comments_and_trailing_commas_go() {
        let text = "{ // a\n \"b\": \"// no /* no */ ,]\", /* c, */ \"d\": [1, 2, /* e */ ], }";
        let value: serde_json::Value = serde_json::from_str(&without_comments(text)).expect("json");
        assert_eq!(value, serde_json::json!({ "b": "// no /* no */ ,]", "d": [1, 2] }));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\"\\\\{}\\[\\],:/*a1 \n]{0,40}") {
            Node::read(&text);
            without_comments(&text);
        }
    }
}
