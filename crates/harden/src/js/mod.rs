//! The one place that speaks to swc: parsing, printing, and what a program tells about itself.
//!
//! Everything of a program (marks, atoms, positions) lives in one [`Globals`] for each file, so that files do
//! not depend on each other and the same file gives the same bytes on any thread.

pub(crate) mod comments;
pub(crate) mod declarations;
pub(crate) mod diagnose;
pub(crate) mod exports;
pub(crate) mod hazards;
pub(crate) mod passes;
pub(crate) mod print;
pub(crate) mod rename;
pub(crate) mod specifiers;
pub(crate) mod tidy;
pub(crate) mod types;

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use swc_core::{
    common::{
        BytePos, FileName, GLOBALS, Globals, Mark, SourceFile, SourceMap,
        comments::SingleThreadedComments,
        errors::{DiagnosticBuilder, Emitter, HANDLER, Handler, Level},
        sync::Lrc,
    },
    ecma::{
        ast::{EsVersion, Program, Stmt},
        parser::{
            EsSyntax, Syntax, TsSyntax,
            error::{Error as ParseError, SyntaxError},
            parse_file_as_commonjs, parse_file_as_module, parse_file_as_program, parse_file_as_script,
        },
        transforms::base::helpers::{HELPERS, Helpers},
        visit::{Visit, VisitWith},
    },
};

use crate::{CodeFrame, HardenError};

/// The language of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    JavaScript,
    Jsx,
    TypeScript,
    Tsx,
    /// Types only: `.d.ts` and the like.
    Declarations,
}

/// What the file's place says about it, as Node decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// `.mjs`: a module, whatever it holds.
    Module,
    /// `.js` below `"type": "module"`: a module, unless it only makes sense as a browser's script.
    ModuleOrScript,
    /// `.cjs`: CommonJS, whatever it holds.
    CommonJs,
    /// `.js` elsewhere: CommonJS, unless it holds `import` or `export`, which bundlers read as a module.
    CommonJsOrModule,
}

/// How deep a program may be nested.
///
/// A program is walked by recursion; one that is nested without bound would end the process by exhausting its
/// stack. Twenty times what any of the programs in the tests needs, and far below what
/// [`STACK_BYTES`](crate::workers::STACK_BYTES) holds.
pub(crate) const MAX_DEPTH: usize = 3_000;

/// How many classes may stand in each other's `extends`. The compiler's time doubles with each.
const MAX_HERITAGE: usize = 12;

/// One file being worked on.
pub(crate) struct Session {
    pub(crate) path: String,
    pub(crate) map: Lrc<SourceMap>,
    pub(crate) file: Lrc<SourceFile>,
    pub(crate) comments: SingleThreadedComments,
    /// The mark of names that no scope of the file declares.
    pub(crate) unresolved: Mark,
    /// The mark of names that the file's top level declares.
    pub(crate) top_level: Mark,
    /// The files that this one is made of, where it is made of several.
    parts: RefCell<Vec<(String, Lrc<SourceFile>)>>,
}

/// Runs `work` on a file in its own compiler session.
///
/// A panic inside the compiler is an error of this file, and so is what a transformation reports.
pub(crate) fn session<T>(
    step: &'static str,
    path: &str,
    text: impl Into<String>,
    work: impl FnOnce(&Session) -> Result<T, HardenError>,
) -> Result<T, HardenError> {
    let text = text.into();
    check_depth(path, &text)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        GLOBALS.set(&Globals::new(), || {
            let map = Lrc::new(SourceMap::default());
            let file = map.new_source_file(FileName::Custom(path.to_owned()).into(), text);
            let session = Session {
                path: path.to_owned(),
                map,
                file,
                comments: SingleThreadedComments::default(),
                unresolved: Mark::new(),
                top_level: Mark::new(),
                parts: RefCell::default(),
            };
            let reports = Reports::default();
            let handler = Handler::with_emitter(false, false, Box::new(reports.clone()));
            let done = HELPERS.set(&Helpers::new(false), || HANDLER.set(&handler, || work(&session)))?;
            match reports.0.take() {
                None => Ok(done),
                Some((at, message)) => Err(HardenError::Syntax(session.frame(at, message))),
            }
        })
    }));
    outcome.unwrap_or_else(|panic| {
        Err(HardenError::Compiler { step, path: path.to_owned(), reason: panic_text(panic.as_ref()) })
    })
}

impl Session {
    /// Opens one of the files that this one is made of. It shares everything but its comments and its top level.
    pub(crate) fn part(&self, path: &str, text: &str) -> Result<Self, HardenError> {
        check_depth(path, text)?;
        let file = self.map.new_source_file(FileName::Custom(path.to_owned()).into(), text.to_owned());
        self.parts.borrow_mut().push((path.to_owned(), file.clone()));
        Ok(Self {
            path: path.to_owned(),
            map: self.map.clone(),
            file,
            comments: SingleThreadedComments::default(),
            unresolved: self.unresolved,
            top_level: Mark::new(),
            parts: RefCell::default(),
        })
    }

    /// Takes over the comments of a part.
    pub(crate) fn take_comments(&self, part: &Self) {
        let (mut leading, mut trailing) = self.comments.borrow_all_mut();
        let (more_leading, more_trailing) = part.comments.borrow_all();
        leading.extend(more_leading.iter().map(|(at, comments)| (*at, comments.clone())));
        trailing.extend(more_trailing.iter().map(|(at, comments)| (*at, comments.clone())));
    }

    /// Parses statements that no source file holds.
    pub(crate) fn snippet(&self, text: &str) -> Result<Vec<Stmt>, HardenError> {
        let file = self.map.new_source_file(FileName::Anon.into(), text.to_owned());
        let syntax = Syntax::Es(EsSyntax::default());
        let parsed = parse_file_as_script(&file, syntax, EsVersion::latest(), None, &mut Vec::new());
        parsed.map(|script| script.body).map_err(|error| HardenError::Compiler {
            step: "snippet",
            path: self.path.clone(),
            reason: error.kind().msg().into_owned(),
        })
    }

    /// Returns the files that source maps speak of.
    pub(crate) fn files(&self) -> Vec<(String, Lrc<SourceFile>)> {
        let parts = self.parts.borrow();
        if parts.is_empty() { vec![(self.path.clone(), self.file.clone())] } else { parts.clone() }
    }

    /// Parses the file, or says where it is not in its language.
    pub(crate) fn parse(&self, language: Language, goal: Goal) -> Result<Program, HardenError> {
        let program = match language {
            Language::TypeScript | Language::Tsx | Language::Declarations => {
                self.parse_typescript(language, goal)
            }
            Language::JavaScript | Language::Jsx => self.parse_javascript(language == Language::Jsx, goal),
        };
        let program = program.map_err(|error| {
            let message = error.kind().msg().into_owned();
            HardenError::Syntax(self.frame(swc_core::common::Spanned::span(&error).lo, message))
        })?;
        if too_deep(&program) {
            // A tree this deep cannot be dropped by recursion within the stack's reserve either.
            std::mem::forget(program);
            return Err(HardenError::TooDeep { path: self.path.clone(), limit: MAX_DEPTH });
        }
        Ok(program)
    }

    fn parse_javascript(&self, jsx: bool, goal: Goal) -> Result<Program, ParseError> {
        let syntax = Syntax::Es(EsSyntax { jsx, explicit_resource_management: true, ..Default::default() });
        let module = || {
            self.attempt(|errors| {
                parse_file_as_module(&self.file, syntax, EsVersion::latest(), Some(&self.comments), errors)
                    .map(Program::Module)
            })
        };
        let common_js = || {
            self.attempt(|errors| {
                parse_file_as_commonjs(&self.file, syntax, EsVersion::latest(), Some(&self.comments), errors)
                    .map(Program::Script)
            })
        };
        match goal {
            Goal::Module => module(),
            Goal::CommonJs => common_js(),
            Goal::ModuleOrScript => module().or_else(|error| common_js().map_err(|_| error)),
            Goal::CommonJsOrModule => common_js().or_else(|error| {
                module().map_err(|in_module| match error.kind() {
                    SyntaxError::ImportExportInScript | SyntaxError::ImportMetaInScript => in_module,
                    _ => error,
                })
            }),
        }
    }

    fn parse_typescript(&self, language: Language, goal: Goal) -> Result<Program, ParseError> {
        let syntax = Syntax::Typescript(TsSyntax {
            tsx: language == Language::Tsx,
            dts: language == Language::Declarations,
            decorators: true,
            ..Default::default()
        });
        self.attempt(|errors| {
            let comments = Some(&self.comments as _);
            if goal == Goal::Module {
                parse_file_as_module(&self.file, syntax, EsVersion::latest(), comments, errors)
                    .map(Program::Module)
            } else {
                parse_file_as_program(&self.file, syntax, EsVersion::latest(), comments, errors)
            }
        })
    }

    /// Parses once, from clean comments; an error that the parser could go on after is an error here.
    fn attempt(
        &self,
        parse: impl FnOnce(&mut Vec<ParseError>) -> Result<Program, ParseError>,
    ) -> Result<Program, ParseError> {
        let (mut leading, mut trailing) = self.comments.borrow_all_mut();
        leading.clear();
        trailing.clear();
        drop((leading, trailing));
        let mut errors = Vec::new();
        let program = parse(&mut errors)?;
        match errors.into_iter().find(|error| !self.is_annex_b(error)) {
            None => Ok(program),
            Some(error) => Err(error),
        }
    }

    /// Whether the parser refuses what Annex B of the standard allows: `if (x) function f() {}`.
    fn is_annex_b(&self, error: &ParseError) -> bool {
        let at = swc_core::common::Spanned::span(error).lo.0.saturating_sub(self.file.start_pos.0) as usize;
        matches!(error.kind(), SyntaxError::DeclNotAllowed)
            && self.file.src.get(at..).is_some_and(|rest| rest.starts_with("function"))
    }

    /// Describes a place in the file.
    pub(crate) fn frame(&self, at: BytePos, message: impl Into<String>) -> CodeFrame {
        let offset = at.0.saturating_sub(self.file.start_pos.0) as usize;
        diagnose::frame(&self.path, &self.file.src, offset, message)
    }
}

/// The first error that a transformation reported.
#[derive(Clone, Default)]
struct Reports(Lrc<RefCell<Option<(BytePos, String)>>>);

impl Emitter for Reports {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        if matches!(diagnostic.level, Level::Bug | Level::Fatal | Level::PhaseFatal | Level::Error) {
            let at = diagnostic.span.primary_span().map_or(BytePos(0), |span| span.lo);
            self.0.borrow_mut().get_or_insert((at, diagnostic.message()));
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("unknown reason").to_owned()
}

fn check_depth(path: &str, text: &str) -> Result<(), HardenError> {
    if bracket_depth(text) > MAX_DEPTH {
        return Err(HardenError::TooDeep { path: path.to_owned(), limit: MAX_DEPTH });
    }
    Ok(())
}

/// Returns how deep brackets are nested at most, reading text as if it held no strings.
fn bracket_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn too_deep(program: &Program) -> bool {
    struct Depth {
        now: usize,
        heritage: usize,
        exceeded: bool,
    }
    impl Depth {
        fn down(&mut self, visit: impl FnOnce(&mut Self)) {
            if self.now == MAX_DEPTH {
                self.exceeded = true;
                return;
            }
            self.now += 1;
            visit(self);
            self.now -= 1;
        }
    }
    impl Visit for Depth {
        fn visit_expr(&mut self, node: &swc_core::ecma::ast::Expr) {
            self.down(|depth| node.visit_children_with(depth));
        }
        fn visit_stmt(&mut self, node: &swc_core::ecma::ast::Stmt) {
            self.down(|depth| node.visit_children_with(depth));
        }
        fn visit_class(&mut self, node: &swc_core::ecma::ast::Class) {
            self.heritage += 1;
            if self.heritage > MAX_HERITAGE {
                self.exceeded = true;
            } else {
                node.super_class.visit_with(self);
            }
            let heritage = std::mem::take(&mut self.heritage);
            node.body.visit_with(self);
            node.decorators.visit_with(self);
            self.heritage = heritage - 1;
        }
        fn visit_pat(&mut self, node: &swc_core::ecma::ast::Pat) {
            self.down(|depth| node.visit_children_with(depth));
        }
        fn visit_ts_type(&mut self, node: &swc_core::ecma::ast::TsType) {
            self.down(|depth| node.visit_children_with(depth));
        }
    }
    let mut depth = Depth { now: 0, heritage: 0, exceeded: false };
    program.visit_with(&mut depth);
    depth.exceeded
}
