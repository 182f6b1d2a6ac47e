//! Reads lines of stack traces as engines write them, so that they can be written again with other places and names.
//!
//! Nothing is taken apart that is not replaced: a frame is its line and the ranges in it that hold a function's name
//! and a place, and all else (what stands before it in a log, `async`, `new`, an eval's own place) stays.

use std::ops::Range;

/// Who wrote a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Node, Chrome, Edge, Deno.
    V8,
    /// Firefox.
    SpiderMonkey,
    /// Safari, Bun.
    JavaScriptCore,
    /// One of the last two: the line is written the same by both.
    Unsaid,
}

impl Engine {
    /// Returns the name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::V8 => "v8",
            Self::SpiderMonkey => "spidermonkey",
            Self::JavaScriptCore => "javascriptcore",
            Self::Unsaid => "spidermonkey-or-javascriptcore",
        }
    }
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) engine: Engine,
    /// Where the function's name stands, and where one would stand when there is none.
    pub(crate) function: Range<usize>,
    /// The place; none where the code is the engine's own.
    pub(crate) place: Option<Place>,
    /// Whether the function was called by `new`.
    pub(crate) is_new: bool,
    /// Whether the place stands in an `eval`'s origin, with the evaluated code's own place behind it.
    pub(crate) in_eval: bool,
}

/// A place as an engine writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the file stands.
    pub(crate) file: Range<usize>,
    /// Where file, line and column stand together.
    pub(crate) whole: Range<usize>,
    /// From 1.
    pub(crate) line: u32,
    /// From 1; not said for the origin of an `eval` in Firefox.
    pub(crate) column: Option<u32>,
}

/// The longest line that is looked at, in bytes: Node shows the whole line of minified code before a trace.
const MAX_LINE: usize = 16 * 1024;

/// How often a line may say `at` before its frame.
const MAX_STARTS: usize = 8;

/// Reads one line, without its end. Returns nothing where it is no frame.
pub(crate) fn frame(line: &str) -> Option<Frame> {
    if line.len() > MAX_LINE {
        return None;
    }
    v8(line).or_else(|| at_sign(line))
}

fn v8(line: &str) -> Option<Frame> {
    // What a log writes before a frame may hold an ` at ` of its own.
    let starts = line.match_indices("at ").map(|(at, _)| at);
    let starts = starts.filter(|&at| at == 0 || line[..at].ends_with([' ', '\t']));
    for start in starts.take(MAX_STARTS) {
        let bare = line[..start].trim().is_empty();
        if start == 0 && !line.contains([':', '(']) {
            return None;
        }
        if let Some(frame) = v8_at(line, start + 3, bare) {
            return Some(frame);
        }
    }
    None
}

/// Reads what stands behind `at `. Only a place in a file makes a frame of a line that starts with something else.
fn v8_at(line: &str, from: usize, bare: bool) -> Option<Frame> {
    // Node writes ` {` behind the last frame of an error that has more to show.
    let end = line.trim_end().len();
    let end = line[..end].strip_suffix(" {").map_or(end, |rest| rest.trim_end().len());
    let mut start = from;
    for word in ["async ", "new "] {
        if line.get(start..end)?.starts_with(word) {
            start += word.len();
        }
    }
    let is_new = line[from..start].ends_with("new ");
    let text = line.get(start..end)?;
    if let Some(open) = text.find(" (")
        && text.ends_with(')')
        && !is_place(text)
    {
        let inside = start + open + 2..end - 1;
        let mut frame =
            Frame { engine: Engine::V8, function: start..start + open, place: None, is_new, in_eval: false };
        if text[open + 2..].starts_with("eval at ") {
            return evaluated(line, inside, frame);
        }
        // The start of something else that the log says: the frame comes later in the line.
        if text[..open].contains(" at ") {
            return None;
        }
        frame.place = place(line, inside.clone());
        let own = is_own(&line[inside]);
        return (frame.place.is_some() || bare && own).then_some(frame);
    }
    let nowhere = start..start;
    if text.starts_with("eval at ") {
        let frame = Frame { engine: Engine::V8, function: nowhere, place: None, is_new, in_eval: true };
        return evaluated(line, start..end, frame);
    }
    let place = place(line, start..end).filter(|_| bare || !text.contains(" at "));
    (place.is_some() || bare && is_own(text)).then_some(Frame {
        engine: Engine::V8,
        function: nowhere,
        place,
        is_new,
        in_eval: false,
    })
}

/// Finds the file that an `eval` stands in: `eval at f (eval at g (file:1:2), <anonymous>:1:1), <anonymous>:1:1`.
fn evaluated(line: &str, within: Range<usize>, mut frame: Frame) -> Option<Frame> {
    frame.in_eval = true;
    let mut start = within.start;
    while line.get(start..within.end)?.starts_with("eval at ") {
        let name = start + "eval at ".len();
        let Some(open) = line[name..within.end].find(" (") else {
            frame.function = name..name;
            return Some(frame);
        };
        frame.function = name..name + open;
        start = name + open + 2;
    }
    // The place ends at the bracket before the first `, `.
    let close = line[start..within.end].find("), ").map_or(within.end, |at| start + at);
    frame.place = place(line, start..close);
    Some(frame)
}

fn at_sign(line: &str) -> Option<Frame> {
    let end = line.trim_end().len();
    let start = line.len() - line.trim_start().len();
    let text = line.get(start..end)?;
    if matches!(text, "[native code]" | "global code" | "eval code" | "module code") {
        return Some(Frame {
            engine: Engine::JavaScriptCore,
            function: start..end,
            place: None,
            is_new: false,
            in_eval: false,
        });
    }
    // A scope in the file's part has an `@` as well, and names have none: the first counts.
    let sign = start + text.find('@')?;
    let name = &line[start..sign];
    let rest = &line[sign + 1..end];
    let engine = if rest == "[native code]" || is_jsc_name(name) {
        Engine::JavaScriptCore
    } else if rest.contains(" > ") || name.contains('*') || name.contains(['/', '<']) {
        Engine::SpiderMonkey
    } else {
        Engine::Unsaid
    };
    // `async fn` in Safari; `async*fn`, `promise callback*fn` in Firefox.
    let mut own = start + name.rfind('*').map_or(0, |star| star + 1);
    if line[own..sign].starts_with("async ") {
        own += "async ".len();
    }
    let mut frame = Frame { engine, function: own..sign, place: None, is_new: false, in_eval: false };
    if rest == "[native code]" || rest.starts_with("wasm") {
        return Some(frame);
    }
    let plain = name.strip_prefix("get ").or(name.strip_prefix("set ")).unwrap_or(name);
    if plain.contains([' ', '(']) && engine == Engine::Unsaid {
        return None;
    }
    // `http://x/y.js line 3 > eval line 1 > Function:1:1`
    if let Some(inner) = rest.find(" > ") {
        let file_and_line = &rest[..inner];
        let (file, number) = file_and_line.rsplit_once(" line ")?;
        let file = sign + 1..sign + 1 + file.len();
        frame.in_eval = true;
        frame.place = Some(Place {
            whole: file.start..file.start + file_and_line.len(),
            file,
            line: number.parse().ok()?,
            column: None,
        });
        return Some(frame);
    }
    frame.place = place(line, sign + 1..end);
    let found = frame.place.as_ref()?;
    // `name@host:1:2` is an address.
    let file = &line[found.file.clone()];
    (file.contains(['/', '\\']) || has_ending(file)).then_some(frame)
}

fn is_jsc_name(name: &str) -> bool {
    matches!(name, "global code" | "eval code" | "module code")
        || name.starts_with("async ")
        || name.starts_with("wasm-")
}

/// Whether a file's name ends as code does.
fn has_ending(file: &str) -> bool {
    let file = file.split(['?', '#']).next().unwrap_or(file);
    [".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx"].iter().any(|ending| file.ends_with(ending))
}

/// What V8 writes in the place of a file for code that is none of ours.
fn is_own(text: &str) -> bool {
    text == "native"
        || text == "<anonymous>"
        || text.starts_with("<anonymous>:")
        || text.starts_with("native ")
        || text.starts_with("index ") && text[6..].bytes().all(|byte| byte.is_ascii_digit())
        || text.starts_with("wasm://")
        || text.starts_with("unknown location")
}

fn is_place(text: &str) -> bool {
    !text.starts_with("async ")
        && text.ends_with(|c: char| c.is_ascii_digit())
        && place(text, 0..text.len()).is_some()
}

/// Reads `file:line:column`.
fn place(line: &str, within: Range<usize>) -> Option<Place> {
    let text = line.get(within.clone())?;
    if text.starts_with("wasm://") {
        return None;
    }
    let (rest, column) = text.rsplit_once(':')?;
    let (file, number) = rest.rsplit_once(':')?;
    let digits = |text: &str| {
        (!text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())?
    };
    let (number, column) = (digits(number)?, digits(column)?);
    // `12:30:45` is a time.
    if file.is_empty() || file.starts_with("<anonymous>") || file.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Place {
        file: within.start..within.start + file.len(),
        whole: within,
        line: number,
        column: Some(column),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File, line and column.
    type Read<'a> = (&'a str, u32, Option<u32>);

    /// Engine, function and place as read.
    fn read(line: &str) -> Option<(Engine, &str, Option<Read<'_>>)> {
        let frame = frame(line)?;
        let place = frame.place.map(|place| (&line[place.file], place.line, place.column));
        Some((frame.engine, &line[frame.function], place))
    }

    #[test]
    fn reads_what_v8_writes() {
        let v8 =
            |function, file, line, column| Some((Engine::V8, function, Some((file, line, Some(column)))));
        let own = |function| Some((Engine::V8, function, None));
        for (line, expected) in [
            (
                "    at a (/srv/node_modules/@acme/core/index.js:1:42)",
                v8("a", "/srv/node_modules/@acme/core/index.js", 1, 42),
            ),
            ("    at /srv/index.js:1:42", v8("", "/srv/index.js", 1, 42)),
            ("at file:///srv/index.mjs:1:42", v8("", "file:///srv/index.mjs", 1, 42)),
            (
                "    at async a (file:///srv/my%20app/index.mjs:7:1)",
                v8("a", "file:///srv/my%20app/index.mjs", 7, 1),
            ),
            ("    at async file:///srv/index.mjs:7:1", v8("", "file:///srv/index.mjs", 7, 1)),
            ("    at new a (/srv/index.js:1:42)", v8("a", "/srv/index.js", 1, 42)),
            ("    at async new a (/srv/index.js:1:42)", v8("a", "/srv/index.js", 1, 42)),
            ("    at b.c [as d] (/srv/index.js:1:42)", v8("b.c [as d]", "/srv/index.js", 1, 42)),
            (
                "    at Object.<anonymous> (/srv/index.js:1:42)",
                v8("Object.<anonymous>", "/srv/index.js", 1, 42),
            ),
            ("    at a.<computed> (/srv/index.js:1:42)", v8("a.<computed>", "/srv/index.js", 1, 42)),
            ("    at get a [as b] (/srv/index.js:1:42)", v8("get a [as b]", "/srv/index.js", 1, 42)),
            (
                "    at a (C:\\Program Files (x86)\\app\\index.js:1:42)",
                v8("a", "C:\\Program Files (x86)\\app\\index.js", 1, 42),
            ),
            (
                "    at C:\\Program Files (x86)\\app\\index.js:1:42",
                v8("", "C:\\Program Files (x86)\\app\\index.js", 1, 42),
            ),
            ("    at a (file:///C:/app/index.js:1:42)", v8("a", "file:///C:/app/index.js", 1, 42)),
            (
                "    at a (https://cdn.example/index.js?v=1:2:1:42)",
                v8("a", "https://cdn.example/index.js?v=1:2", 1, 42),
            ),
            (
                "    at a (webpack-internal:///(rsc)/./node_modules/a/index.js?1234:1:42)",
                v8("a", "webpack-internal:///(rsc)/./node_modules/a/index.js?1234", 1, 42),
            ),
            ("    at eval (webpack://app/./a.js:1:42)", v8("eval", "webpack://app/./a.js", 1, 42)),
            (
                "    at Module._compile (node:internal/modules/cjs/loader:1554:14)",
                v8("Module._compile", "node:internal/modules/cjs/loader", 1554, 14),
            ),
            ("    at a (/srv/index.js:1:42) {", v8("a", "/srv/index.js", 1, 42)),
            ("2026-11-25 at 12:30:45 [web]     at a (/srv/index.js:1:42)", v8("a", "/srv/index.js", 1, 42)),
            (
                "    at eval (eval at a (/srv/index.js:1:42), <anonymous>:1:7)",
                v8("a", "/srv/index.js", 1, 42),
            ),
            (
                "    at eval (eval at <anonymous> (eval at b (/srv/x (1)/index.js:1:42), <anonymous>:1:1), <anonymous>:2:3)",
                v8("b", "/srv/x (1)/index.js", 1, 42),
            ),
            ("    at Array.map (<anonymous>)", own("Array.map")),
            ("    at async Promise.all (index 0)", own("Promise.all")),
            ("    at new Promise (<anonymous>)", own("Promise")),
            ("    at Array.forEach (native)", own("Array.forEach")),
            ("    at <anonymous>", own("")),
            ("    at native", own("")),
            ("    at <anonymous>:1:7", own("")),
            ("    at f (wasm://wasm/8a7:wasm-function[3]:0x4f)", own("f")),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
        for (line, is_new) in
            [("at new a (/x.js:1:2)", true), ("at a (/x.js:1:2)", false), ("at newA (/x.js:1:2)", false)]
        {
            assert_eq!(frame(line).expect(line).is_new, is_new, "{line}");
        }
    }

    #[test]
    fn reads_what_safari_and_firefox_write() {
        let at =
            |engine, function, file, line, column| Some((engine, function, Some((file, line, Some(column)))));
        use Engine::{JavaScriptCore as Jsc, SpiderMonkey as Firefox, Unsaid};
        for (line, expected) in [
            (
                "a@https://cdn.example/@acme/core@1.0.0/index.js:1:42",
                at(Unsaid, "a", "https://cdn.example/@acme/core@1.0.0/index.js", 1, 42),
            ),
            ("@https://cdn.example/index.js:1:42", at(Unsaid, "", "https://cdn.example/index.js", 1, 42)),
            ("a@file:///C:/app/index.js:1:42", at(Unsaid, "a", "file:///C:/app/index.js", 1, 42)),
            ("a@index.js:1:42", at(Unsaid, "a", "index.js", 1, 42)),
            (
                "global code@https://cdn.example/index.js:1:42",
                at(Jsc, "global code", "https://cdn.example/index.js", 1, 42),
            ),
            (
                "module code@https://cdn.example/index.js:1:42",
                at(Jsc, "module code", "https://cdn.example/index.js", 1, 42),
            ),
            (
                "async a@https://cdn.example/index.js:1:42",
                at(Jsc, "a", "https://cdn.example/index.js", 1, 42),
            ),
            ("map@[native code]", Some((Jsc, "map", None))),
            ("@[native code]", Some((Jsc, "", None))),
            (
                "get a@https://cdn.example/index.js:1:42",
                at(Unsaid, "get a", "https://cdn.example/index.js", 1, 42),
            ),
            ("[native code]", Some((Jsc, "[native code]", None))),
            ("eval code", Some((Jsc, "eval code", None))),
            (
                "a/<@https://cdn.example/index.js:1:42",
                at(Firefox, "a/<", "https://cdn.example/index.js", 1, 42),
            ),
            (
                "async*a@https://cdn.example/index.js:1:42",
                at(Firefox, "a", "https://cdn.example/index.js", 1, 42),
            ),
            (
                "promise callback*a@https://cdn.example/index.js:1:42",
                at(Firefox, "a", "https://cdn.example/index.js", 1, 42),
            ),
            (
                "a@https://cdn.example/index.js line 3 > eval:1:1",
                Some((Firefox, "a", Some(("https://cdn.example/index.js", 3, None)))),
            ),
            (
                "a@https://cdn.example/index.js line 3 > eval line 1 > Function:1:1",
                Some((Firefox, "a", Some(("https://cdn.example/index.js", 3, None)))),
            ),
            ("    a@resource://app/index.js:1:42", at(Unsaid, "a", "resource://app/index.js", 1, 42)),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_frame_is_none() {
        for line in [
            "",
            " ",
            "at",
            "at ",
            "    at ",
            "TypeError: a is not a function",
            "Error: failed at 12:30:45",
            "meet me at noon (or later)",
            "at the end (see above)",
            "somebody@example.com:25:1",
            "mail somebody@example.com",
            "/srv/index.js:1",
            "https://cdn.example/index.js:1:42",
            "at a (/srv/index.js)",
            "at a (/srv/index.js:1)",
            "at a (/srv/index.js:one:two)",
            "at a (:1:2)",
            "at a (/srv/index.js:99999999999:1)",
            "@",
            "@:1:2",
            "a@b",
            "\u{0}\u{1}\u{fffd}at (",
            "Node.js v20.20.2",
        ] {
            assert_eq!(frame(line), None, "{line}");
        }
        // Minified code, as Node shows it before a trace, takes no time.
        let long = format!("{} at a (/srv/index.js:1:42)", " at x(".repeat(1_000_000));
        assert_eq!(frame(&long), None);
    }

    proptest::proptest! {
        #[test]
        fn ranges_lie_in_the_line(line in "(    )?(at |async |new |eval at |[a-z.é]{0,6}@?)*[ (]{0,2}(/[a-zé ()]{1,6}){0,3}(:[0-9]{1,4}){0,3}[), ]{0,3}(<anonymous>:1:1)?\\)?") {
            if let Some(frame) = frame(&line) {
                proptest::prop_assert!(line.get(frame.function.clone()).is_some());
                if let Some(place) = frame.place {
                    proptest::prop_assert!(line.get(place.whole.clone()).is_some_and(|text| !text.is_empty()));
                    proptest::prop_assert!(frame.function.end <= place.whole.start);
                }
            }
        }

        #[test]
        fn never_panics(line in "\\PC*") {
            frame(&line);
        }
    }
}
