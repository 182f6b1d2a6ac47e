//! Which comments outlive hardening.

use swc_core::{
    common::{
        BytePos, Span, Spanned,
        comments::{Comment, CommentKind, SingleThreadedComments},
    },
    ecma::{
        ast::{ArrowExpr, Constructor, Function, Program},
        visit::{Visit, VisitWith},
    },
};

use super::Session;

/// Returns whether a comment states somebody's rights, or asks to be kept.
///
/// `text` is what stands between the comment's marks.
pub(crate) fn is_legal(text: &str) -> bool {
    text.starts_with('!')
        || ["@license", "@licence", "@preserve", "@cc_on", "@lic"].iter().any(|tag| text.contains(tag))
}

/// Returns whether a comment tells a bundler how to treat what follows.
///
/// Without it a bundler would follow an `import()` that its author told it to leave alone, or keep a call that
/// nobody needs.
pub(crate) fn is_magic(text: &str) -> bool {
    let text = text.trim();
    ["@vite-ignore", "#__PURE__", "@__PURE__", "#__NO_SIDE_EFFECTS__", "@__NO_SIDE_EFFECTS__"].contains(&text)
        || ["webpack", "turbopack", "rspack"].iter().any(|tool| text.starts_with(tool) && text.contains(':'))
}

/// Returns the text with its comments made blank but for those that are `kept`, so that every other character keeps
/// its place.
pub(crate) fn blanked(session: &Session, kept: impl Fn(&str) -> bool) -> String {
    let mut bytes = session.file.src.as_bytes().to_vec();
    let (leading, trailing) = session.comments.borrow_all();
    for comment in leading.values().chain(trailing.values()).flatten() {
        if kept(&comment.text) {
            continue;
        }
        let place = |at: BytePos| at.0.saturating_sub(session.file.start_pos.0) as usize;
        if let Some(comment) = bytes.get_mut(place(comment.span.lo)..place(comment.span.hi))
            // A browser's `<!--` is left: it is found by other rules.
            && (comment.starts_with(b"//") || comment.starts_with(b"/*"))
        {
            comment.iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
    }
    // Whole comments became spaces, so no character was cut.
    String::from_utf8(bytes).unwrap_or_else(|_| session.file.src.to_string())
}

/// Returns the text of a file that stays as it is, without what leads to a source map.
pub(crate) fn without_maps(session: &Session) -> String {
    blanked(session, |text| !text.contains("sourceMappingURL") && !text.contains("sourceURL"))
}

/// Returns the legal comments of a file in their order, each as it stands there, each once.
pub(crate) fn legal(comments: &SingleThreadedComments) -> Vec<String> {
    let mut found: Vec<(u32, String)> = Vec::new();
    let (leading, trailing) = comments.borrow_all();
    for comment in leading.values().chain(trailing.values()).flatten() {
        if is_legal(&comment.text) {
            found.push((comment.span_lo().0, written(comment)));
        }
    }
    found.sort();
    let mut texts: Vec<String> = Vec::new();
    for (_, text) in found {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Drops every comment that no tool reads.
pub(crate) fn keep_magic(comments: &SingleThreadedComments) {
    let (mut leading, mut trailing) = comments.borrow_all_mut();
    for comments in [&mut leading, &mut trailing] {
        comments.retain(|_, list| {
            list.retain(|comment| comment.kind == CommentKind::Block && is_magic(&comment.text));
            !list.is_empty()
        });
    }
}

/// Drops what says that a call is not needed for its effects, within functions.
///
/// A bundler asks for it where it decides what of a module to keep, and that is what runs when the module is loaded.
pub(crate) fn drop_pure_in_functions(program: &Program, comments: &SingleThreadedComments) {
    let mut functions = Functions::default();
    program.visit_with(&mut functions);
    let is_inside = |at: BytePos| {
        let next = functions.0.partition_point(|span| span.lo < at);
        next.checked_sub(1).and_then(|last| functions.0.get(last)).is_some_and(|span| at < span.hi)
    };
    let (mut leading, _) = comments.borrow_all_mut();
    leading.retain(|at, list| {
        if is_inside(*at) {
            list.retain(|comment| !["#__PURE__", "@__PURE__"].contains(&comment.text.trim()));
        }
        !list.is_empty()
    });
}

/// The outermost functions of a program, in their order.
#[derive(Default)]
struct Functions(Vec<Span>);

impl Visit for Functions {
    fn visit_function(&mut self, node: &Function) {
        self.0.push(node.span);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.0.push(node.span);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.0.push(node.span);
    }
}

fn written(comment: &Comment) -> String {
    match comment.kind {
        CommentKind::Line => format!("//{}", comment.text),
        CommentKind::Block => format!("/*{}*/", comment.text),
    }
}
