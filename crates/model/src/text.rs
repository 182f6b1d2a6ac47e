//! What every noun has that stands in documents as one text: the way in is its parser, the way out its [`Display`].
//!
//! [`Display`]: std::fmt::Display

/// Implements what serde and schemars ask of such a noun. The members behind its error are those of its JSON Schema.
macro_rules! text {
    ($name:ident, $error:ident, $($schema:tt)*) => {
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", $($schema)*})
            }
        }
    };
}

/// Implements [`std::fmt::Display`] for a noun that wraps its text.
macro_rules! shown {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

pub(crate) use {shown, text};
