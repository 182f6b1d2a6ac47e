//! One table for each family of endpoints: it registers the routes and it is what the OpenAPI document says.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::App;

/// What a request has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Nothing, or what stands in its body.
    None,
    /// A CI session token.
    Session,
    /// A CI session token or a person's token, as a bearer or as the password of HTTP Basic.
    SessionOrBasic,
    /// A CI session token, or the operator's token.
    SessionOrOperator,
    /// An npm token.
    NpmToken,
    /// A CI platform's ID token.
    IdToken,
    /// A CI session token, or a CI platform's ID token.
    SessionOrIdToken,
    /// The local issuer's request token of one run.
    RequestToken,
}

/// Makes a schema, with those it refers to.
pub(crate) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// A body, and what it looks like when it is JSON or a form.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) schema: Option<MakeSchema>,
}

impl Content {
    pub(crate) fn of<T: JsonSchema>(media_type: &'static str) -> Self {
        Self { media_type, schema: Some(SchemaGenerator::subschema_for::<T>) }
    }
}

/// One method of one path.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    /// As the router matches it. axum and OpenAPI write parameters alike, but for `{*rest}`.
    pub(crate) path: String,
    /// As the document shows it, where the router matches more than one operation with one path.
    shown: Vec<&'static str>,
    pub(crate) summary: &'static str,
    pub(crate) credential: Credential,
    pub(crate) takes_idempotency_key: bool,
    pub(crate) query: Vec<(&'static str, &'static str)>,
    pub(crate) bodies: Vec<Content>,
    pub(crate) answers: Vec<(u16, &'static str, Option<Content>)>,
    handler: MethodRouter<Arc<App>>,
}

impl Endpoint {
    /// Begins an endpoint at `path`, with or without its leading `/`.
    pub(crate) fn new<H, T>(method: Method, path: &str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path: format!("/{}", path.trim_start_matches('/')),
            shown: Vec::new(),
            summary,
            credential: Credential::None,
            takes_idempotency_key: false,
            query: Vec::new(),
            bodies: Vec::new(),
            answers: Vec::new(),
            handler: on(filter, handler),
        }
    }

    /// Begins a `GET`.
    pub(crate) fn get<H, T>(path: &str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::GET, path, summary, handler)
    }

    /// Begins a `POST`.
    pub(crate) fn post<H, T>(path: &str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::POST, path, summary, handler)
    }

    /// Says what a request has to show.
    pub(crate) fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Shows it as these paths, where the router matches several operations with one.
    pub(crate) fn shown_as(mut self, paths: &[&'static str]) -> Self {
        self.shown = paths.to_vec();
        self
    }

    /// Returns the paths as the document shows them.
    pub(crate) fn shown_paths(&self) -> Vec<&str> {
        if self.shown.is_empty() { vec![&self.path] } else { self.shown.clone() }
    }

    /// Says that a repeated request with the same `Idempotency-Key` gets the same answer.
    pub(crate) fn repeatable(mut self) -> Self {
        self.takes_idempotency_key = true;
        self
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, name: &'static str, description: &'static str) -> Self {
        self.query.push((name, description));
        self
    }

    /// Says that it takes a JSON document.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.bodies.push(Content::of::<T>("application/json"));
        self
    }

    /// Says that it takes a form.
    pub(crate) fn takes_form<T: JsonSchema>(mut self) -> Self {
        self.bodies.push(Content::of::<T>("application/x-www-form-urlencoded"));
        self
    }

    /// Says that it also takes something else.
    pub(crate) fn takes_also(mut self, media_type: &'static str) -> Self {
        self.bodies.push(Content { media_type, schema: None });
        self
    }

    /// Says that it answers a JSON document.
    pub(crate) fn answers<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push((status, description, Some(Content::of::<T>("application/json"))));
        self
    }

    /// Says that it answers something else, or nothing.
    pub(crate) fn answers_with(
        mut self,
        status: u16,
        description: &'static str,
        media_type: Option<&'static str>,
    ) -> Self {
        let content = media_type.map(|media_type| Content { media_type, schema: None });
        self.answers.push((status, description, content));
        self
    }
}

/// Registers every endpoint of a table.
pub(crate) fn register(endpoints: Vec<Endpoint>) -> Router<Arc<App>> {
    endpoints.into_iter().fold(Router::new(), |router, it| router.route(&it.path, it.handler))
}
