//! The settings of a YAML file, as far as a scan for dangerous ones needs them.
//!
//! Reads block mappings with plain and quoted keys. Whatever it cannot read for certain it reports as such: a
//! setting that hides in an anchor, a flow mapping or a tag is refused, never overlooked.

/// A setting: its keys from the outermost to its own, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) path: Vec<String>,
    /// Without quotes and comment; empty for a mapping, and for a list whose items stand below it.
    pub(crate) value: String,
    /// From 1.
    pub(crate) line: usize,
}

/// A line that is not read: its number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) usize);

/// Lists the settings of `text`.
pub(crate) fn settings(text: &str) -> Result<Vec<Setting>, Unreadable> {
    let mut settings = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    // Lines that are indented more than this belong to a list or a block text.
    let mut skip: Option<usize> = None;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let unreadable = Unreadable(index + 1);
        let line = raw.trim_start_matches(' ');
        let indent = raw.len() - line.len();
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if skip.is_some_and(|skip| indent > skip) {
            continue;
        }
        skip = None;
        if line == "---" && settings.is_empty() {
            continue;
        }
        if line == "-" || line.starts_with("- ") {
            // A list may stand as far left as its key.
            if above.is_empty() {
                return Err(unreadable);
            }
            skip = Some(indent);
            continue;
        }
        while above.last().is_some_and(|(outer, _)| *outer >= indent) {
            above.pop();
        }
        if above.is_empty() && indent > 0 {
            return Err(unreadable);
        }
        let (key, value) = key(line).ok_or(unreadable)?;
        let value = value.trim_start();
        above.push((indent, key));
        if value.starts_with(['|', '>']) {
            skip = Some(indent);
        }
        // An alias or a tag may stand for anything, `{` and `[` may go on below.
        let value = match value.chars().next() {
            Some('&' | '*' | '!') => return Err(unreadable),
            Some('{') if !matches!(value, "{}") => return Err(unreadable),
            Some('[') if !value.split('#').next().unwrap_or(value).trim_end().ends_with(']') => {
                return Err(unreadable);
            }
            _ => scalar(value),
        };
        settings.push(Setting {
            path: above.iter().map(|(_, key)| key.clone()).collect(),
            value,
            line: index + 1,
        });
    }
    Ok(settings)
}

/// Splits `key: value`.
fn key(line: &str) -> Option<(String, &str)> {
    if let Some(quote @ ('"' | '\'')) = line.chars().next() {
        let (key, rest) = line[1..].split_once(quote)?;
        let value = rest.trim_start().strip_prefix(':')?;
        // An escape could spell a key that is looked for.
        return (!key.contains('\\')).then(|| (key.to_owned(), value));
    }
    if line.starts_with(['?', '&', '*', '!', '{', '[', '|', '>', '%', '@', '`', '<']) {
        return None;
    }
    let (key, value) = match line.split_once(": ") {
        Some(pair) => pair,
        None => (line.split(" #").next()?.trim_end().strip_suffix(':')?, ""),
    };
    Some((key.trim_end().to_owned(), value))
}

fn scalar(value: &str) -> String {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default().to_owned(),
        Some('#') => String::new(),
        _ => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nested_settings() {
        let text = "# comment\nnodeLinker: node-modules\nnpmScopes:\n  acme:\n    npmRegistryServer: \"https://npm.example/\" # ours\n    npmAlwaysAuth: true\n  'other':\n    npmAuthToken: ${X}\npackages:\n- 'a/*'\n- b\nlogFilters:\n  - code: YN0001\n    level: discard\nlast: 1\n";
        let found = settings(text).expect("settings");
        let shown: Vec<String> =
            found.iter().map(|setting| format!("{}={}", setting.path.join("."), setting.value)).collect();
        assert_eq!(
            shown,
            [
                "nodeLinker=node-modules",
                "npmScopes=",
                "npmScopes.acme=",
                "npmScopes.acme.npmRegistryServer=https://npm.example/",
                "npmScopes.acme.npmAlwaysAuth=true",
                "npmScopes.other=",
                "npmScopes.other.npmAuthToken=${X}",
                "packages=",
                "logFilters=",
                "last=1",
            ]
        );
        assert_eq!(found[3].line, 5);
    }

    #[test]
    fn reports_what_could_hide_a_setting() {
        for text in [
            "{npmScopes: {acme: {npmRegistryServer: 'http://evil.example'}}}",
            "npmScopes: {acme: {}}",
            "npmScopes: &a\n  acme: 1",
            "a: *b",
            "<<: *b",
            "? npmScopes\n: x",
            "!!map\nnpmScopes: x",
            "\"npm\\u0053copes\":\n  acme: 1",
            "- a",
            "plugins: [\n  a]",
            "  indented: 1",
            "no key",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }
}
