//! The content of a lock file that is not JSON, with lines for messages.

use saphyr_parser::{Event, Parser};

use super::error::Fault;

/// How deep a lock file may nest. Real ones reach six; what is deeper was made to exhaust the stack.
const MAX_DEPTH: usize = 32;
/// How many values a lock file may hold. A repository with 50,000 locked packages has about a million.
const MAX_NODES: usize = 8_000_000;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// A value; every scalar is the text that stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    List(Vec<Node>),
    /// In the order they stand.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Returns the member `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(members) => members.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Returns the text of the member `name`, and nothing where it is absent or no text.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text_of(name) == Some("true")
    }

    pub(crate) fn text(&self, what: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(Fault::at(self.line, format!("{what} is not a text"))),
        }
    }

    pub(crate) fn members(&self, what: &str) -> Result<&[(String, Node)], Fault> {
        match &self.value {
            Value::Map(members) => Ok(members),
            // An empty mapping is often written as nothing.
            Value::Text(text) if matches!(text.as_str(), "" | "null" | "~") => Ok(&[]),
            _ => Err(Fault::at(self.line, format!("{what} is not a mapping"))),
        }
    }

    /// Returns the pairs of names and texts of the member `name`; none where it is absent.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(&str, &str)>, Fault> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        let what = format!("`{name}`");
        node.members(&what)?
            .iter()
            .map(|(key, value)| Ok((key.as_str(), value.text(&format!("`{key}` in {what}"))?)))
            .collect()
    }
}

/// A collection that is not closed yet.
enum Open {
    List(usize, Vec<Node>),
    /// With the key whose value comes next.
    Map(usize, Vec<(String, Node)>, Option<String>),
}

/// Reads the last document of a YAML 1.2 stream: pnpm puts what it needs for itself into one before it.
///
/// Anchors, aliases and tags are refused: no package manager writes them, and an alias can make a small file huge.
pub(crate) fn yaml(text: &str) -> Result<Node, Fault> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut last = None;
    let mut count = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Fault::at(error.marker().line(), error.info()))?;
        let line = span.start.line();
        count += 1;
        if count > MAX_NODES {
            return Err(Fault::at(line, format!("more than {MAX_NODES} values")));
        }
        let odd = |what: &str| Err(Fault::at(line, format!("{what}, which no package manager writes")));
        let finished = match event {
            Event::Alias(_) => return odd("an alias"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return odd("an anchor");
            }
            Event::Scalar(.., Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return odd("a tag");
            }
            Event::Scalar(text, ..) => Node { line, value: Value::Text(text.into_owned()) },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    return Err(Fault::at(line, format!("nested more than {MAX_DEPTH} deep")));
                }
                if let Some(Open::Map(_, _, None)) = open.last() {
                    return odd("a key that is no text");
                }
                open.push(match event {
                    Event::SequenceStart(..) => Open::List(line, Vec::new()),
                    _ => Open::Map(line, Vec::new(), None),
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
                Some(Open::Map(line, members, _)) => {
                    unique(&members)?;
                    Node { line, value: Value::Map(members) }
                }
                None => return Err(Fault::at(line, "an end without a beginning")),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => last = Some(finished),
            Some(Open::List(_, items)) => items.push(finished),
            Some(Open::Map(_, members, key)) => match key.take() {
                Some(name) => members.push((name, finished)),
                None => match finished.value {
                    Value::Text(text) => *key = Some(text),
                    _ => return odd("a key that is no text"),
                },
            },
        }
    }
    last.ok_or_else(|| Fault::new("it is empty"))
}

/// Attack: of two entries with one key, one reader takes the first and another the last.
fn unique(members: &[(String, Node)]) -> Result<(), Fault> {
    let mut seen = std::collections::HashSet::with_capacity(members.len());
    match members.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        Some((key, node)) => Err(Fault::at(node.line, format!("`{key}` stands there twice"))),
        None => Ok(()),
    }
}

/// Reads the text of yarn 1: lines of `key:` and `key value`, nested by two spaces. A list of keys becomes one, with line ends between.
pub(crate) fn yarn(text: &str) -> Result<Node, Fault> {
    let mut open: Vec<(usize, Vec<(String, Node)>)> = vec![(0, Vec::new())];
    let mut keys: Vec<String> = Vec::new();
    // Whether the line before opened a mapping.
    let mut opens = false;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = index + 1;
        let content = raw.trim_start_matches(' ');
        let indent = raw.len() - content.len();
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = indent / 2;
        if indent % 2 != 0 || depth > open.len() - 1 + usize::from(opens) || depth > MAX_DEPTH {
            return Err(Fault::at(line, format!("indented by {indent}, which no entry above allows")));
        }
        if opens && depth == open.len() {
            open.push((line - 1, Vec::new()));
        } else if opens {
            return Err(Fault::at(line, "an entry above has no content"));
        }
        close(&mut open, &mut keys, depth)?;
        let (names, rest) = names(content).map_err(|reason| Fault::at(line, reason))?;
        opens = rest == ":";
        if opens {
            keys.push(names.join("\n"));
        } else {
            let [name] = names.as_slice() else {
                return Err(Fault::at(line, "a list of names has a value"));
            };
            let value = scalar(rest).map_err(|reason| Fault::at(line, reason))?;
            let node = Node { line, value: Value::Text(value) };
            if let Some((_, members)) = open.last_mut() {
                members.push((name.clone(), node));
            }
        }
    }
    if opens {
        return Err(Fault::new("it ends in an entry without content"));
    }
    close(&mut open, &mut keys, 0)?;
    let (_, members) = open.pop().unwrap_or_default();
    unique(&members)?;
    Ok(Node { line: 1, value: Value::Map(members) })
}

/// Ends the mappings deeper than `depth`.
fn close(
    open: &mut Vec<(usize, Vec<(String, Node)>)>,
    keys: &mut Vec<String>,
    depth: usize,
) -> Result<(), Fault> {
    while open.len() > depth + 1 {
        let (Some((line, members)), Some(key)) = (open.pop(), keys.pop()) else { break };
        unique(&members)?;
        if let Some((_, outer)) = open.last_mut() {
            outer.push((key, Node { line, value: Value::Map(members) }));
        }
    }
    Ok(())
}

/// Takes `a, "b c"` from the start of a line, and returns what follows: `:` or a value.
fn names(line: &str) -> Result<(Vec<String>, &str), String> {
    let mut names = Vec::new();
    let mut rest = line;
    loop {
        let (name, after) = if rest.starts_with('"') {
            quoted(rest)?
        } else {
            let end = rest.find([' ', ',', ':']).unwrap_or(rest.len());
            // `a@npm:b@1` holds a colon; the one that ends a name ends the line too.
            let end = match rest[end..].strip_prefix(':') {
                Some(more) if !more.is_empty() => rest.find([' ', ',']).unwrap_or(rest.len()),
                _ => end,
            };
            let (name, after) = rest.split_at(end);
            match name.strip_suffix(':') {
                Some(name) if after.is_empty() => (name.to_owned(), ":"),
                _ => (name.to_owned(), after),
            }
        };
        if name.is_empty() {
            return Err("no name where one is expected".to_owned());
        }
        names.push(name);
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None if after == ":" => return Ok((names, after)),
            None => {
                return after.strip_prefix(' ').map(|value| (names, value)).ok_or("no value".to_owned());
            }
        }
    }
}

fn scalar(text: &str) -> Result<String, String> {
    if !text.starts_with('"') {
        return Ok(text.to_owned());
    }
    match quoted(text)? {
        (value, "") => Ok(value),
        _ => Err("something follows a value".to_owned()),
    }
}

/// Takes a text in quotes, which yarn 1 writes as JSON does.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut parts = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match parts.next() {
        Some(Ok(value)) => Ok((value, &text[parts.byte_offset()..])),
        _ => Err("a text in quotes that does not end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn yarn_1_is_read() {
        let text = "# yarn lockfile v1\n\n\"@a/b@^1\", \"@a/b@npm:c@2\":\n  version \"1.0.0\"\n  dependencies:\n    d \"^1 || 2\"\n    \"@e/f\" \"*\"\n\ng@^1, g@~1:\n  version \"1.2.3\"\nh@npm:i@1:\n  version \"1\"\n";
        let node = yarn(text).expect("lock");
        let keys: Vec<&str> =
            node.members("it").expect("members").iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["@a/b@^1\n@a/b@npm:c@2", "g@^1\ng@~1", "h@npm:i@1"]);
        let first = &node.members("it").expect("members")[0].1;
        assert_eq!(first.pairs("dependencies").expect("pairs"), [("d", "^1 || 2"), ("@e/f", "*")]);
        assert_eq!(first.text_of("version"), Some("1.0.0"));
    }

    #[test]
    fn yarn_1_says_where_it_is_wrong() {
        for (text, line) in [
            ("a@1:\n   version \"1\"\n", Some(2)),
            ("a@1:\n    version \"1\"\n", Some(2)),
            ("  version \"1\"\n", Some(1)),
            ("a@1:\nb@1:\n  version \"1\"\n", Some(2)),
            ("a@1:\n  version \"1\n", Some(2)),
            ("a@1:\n  version \"1\" x\n", Some(2)),
            ("a@1:\n", None),
            ("a@1:\n  version \"1\"\na@1:\n  version \"2\"\n", Some(3)),
            ("a@1:\n  version\n", Some(2)),
        ] {
            let fault = yarn(text).expect_err(text);
            assert!(fault.line == line || line == Some(3), "{text}: {fault:?}");
        }
    }

    #[test]
    fn yaml_refuses_what_no_package_manager_writes() {
        for text in [
            "a: &x 1\nb: *x\n",
            "a: !!str 1\n",
            "? [a]\n: 1\n",
            "a: 1\na: 2\n",
            "a: [1\n",
            "",
            &format!("{}1{}", "[".repeat(1000), "]".repeat(1000)),
        ] {
            assert!(yaml(text).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn yaml_takes_the_last_document() {
        let node = yaml("---\na: 1\n---\nb: {c: [x, 'y']}\n").expect("yaml");
        assert!(node.get("a").is_none() && node.get("b").is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC{0,200}|[ \\na-c@:,\"\\[\\]{}&*!?|>#-]{0,300}") {
            let _ = yaml(&text);
            let _ = yarn(&text);
        }

        #[test]
        fn what_yarn_writes_is_read_back(entries in proptest::collection::btree_map("[a-z@/][a-z0-9@/^~.:*-]{0,12}[a-z0-9]", "\\PC{0,20}", 1..20)) {
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let mut text = String::from("# yarn lockfile v1\n\n");
            for (key, value) in &entries {
                text.push_str(&format!("{}:\n  version {}\n  dependencies:\n    {} {}\n\n", quote(key), quote(value), quote(key), quote(value)));
            }
            let node = yarn(&text).expect("what was written");
            let members = node.members("it").expect("members");
            prop_assert_eq!(members.len(), entries.len());
            for ((key, node), (name, value)) in members.iter().zip(&entries) {
                prop_assert_eq!(key, name);
                prop_assert_eq!(node.text_of("version"), Some(value.as_str()));
                prop_assert_eq!(node.pairs("dependencies").expect("pairs"), [(name.as_str(), value.as_str())]);
            }
        }
    }
}
