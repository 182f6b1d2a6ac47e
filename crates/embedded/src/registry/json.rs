//! Strict JSON: one reading of a text, or none.
//!
//! Two parsers that disagree on a duplicate key or on `__proto__` see two documents in one body. Whatever
//! arrives here is read by JavaScript clients later, so such a text is refused instead of interpreted. Text
//! is borrowed from the body: a tarball of 48 MiB in base64 is not copied while it is parsed.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// How deep arrays and objects may stand in each other. A recursive reader downstream overflows its stack on
/// a body of a million `[`; no package manifest nests even half as deep.
pub(crate) const MAX_DEPTH: usize = 64;
/// How many values a text may hold. `[0,0,0,…]` takes some thirty times its size in memory once parsed.
pub(crate) const MAX_VALUES: usize = 1_000_000;
/// The key that assigns to the prototype of the object when JavaScript merges documents carelessly.
const PROTOTYPE: &str = "__proto__";

/// A JSON value whose objects keep the order of their members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// The members of an object, each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// Reads one text.
    ///
    /// # Errors
    /// When it is not JSON, or one of the kinds that this module refuses.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = Reader { depth: 0, values: &Cell::new(0) }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// Returns whether JavaScript would take this for an absent or empty value.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Object(object) => object.0.is_empty(),
            Self::Bool(_) | Self::Number(_) => false,
        }
    }
}

impl<'a> Object<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.0.iter().find_map(|(own, value)| (own == key).then_some(value))
    }

    /// Returns the text under `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Json::as_text)
    }

    /// Returns the object under `key`.
    pub(crate) fn object(&self, key: &str) -> Option<&Object<'a>> {
        self.get(key).and_then(Json::as_object)
    }

    /// Takes the value under `key` out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Json<'a>> {
        let at = self.0.iter().position(|(own, _)| own == key)?;
        Some(self.0.remove(at).1)
    }

    /// Sets `key`, in place when it exists and at the end when not.
    pub(crate) fn insert(&mut self, key: &'static str, value: Json<'a>) {
        match self.0.iter_mut().find(|(own, _)| own == key) {
            Some((_, own)) => *own = value,
            None => self.0.push((Cow::Borrowed(key), value)),
        }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str, &Json<'a>) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Json<'a>)> for Object<'a> {
    fn from_iter<T: IntoIterator<Item = (Cow<'a, str>, Json<'a>)>>(members: T) -> Self {
        Self(members.into_iter().collect())
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'c> {
    depth: usize,
    values: &'c Cell<usize>,
}

impl Reader<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json<'de>, E> {
        serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(Key(key)) = members.next_key()? {
            if key == PROTOTYPE {
                return Err(A::Error::custom(format_args!("the key `{PROTOTYPE}` is refused")));
            }
            list.push((key, members.next_value_seed(inner)?));
        }
        let mut seen = HashSet::with_capacity(list.len());
        if let Some((twice, _)) = list.iter().find(|(key, _)| !seen.insert(key.as_ref())) {
            let twice: String = twice.chars().take(64).collect();
            return Err(A::Error::custom(format_args!("the key `{twice}` stands twice in one object")));
        }
        Ok(Json::Object(Object(list)))
    }
}

/// A key, borrowed where it has no escape. (Serde's own `Cow` always copies.)
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Json::parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn reads_and_writes_back_in_order() {
        let text = r#"{"z":1,"a":[true,null,-2,1.5,"x\n"],"m":{"constructor":"^1"}}"#;
        let value = Json::parse(text.as_bytes()).expect("json");
        assert_eq!(serde_json::to_string(&value).expect("json"), text);
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let body = r#"{"data":"QUJD"}"#;
        let value = Json::parse(body.as_bytes()).expect("json");
        let data = value.as_object().and_then(|object| object.get("data")).expect("data");
        assert!(matches!(data, Json::Text(Cow::Borrowed("QUJD"))));
    }

    #[test]
    fn refuses_what_has_two_readings() {
        assert!(refusal(r#"{"a":1,"a":2}"#).contains("`a` stands twice"));
        assert!(refusal(r#"{"a":1,"\u0061":2}"#).contains("`a` stands twice"));
        assert!(refusal(r#"[{"b":{"__proto__":{}}}]"#).contains("`__proto__` is refused"));
        assert!(refusal(r#"{"\u005f_proto__":{}}"#).contains("`__proto__` is refused"));
    }

    #[test]
    fn refuses_what_is_not_json() {
        for bad in
            ["", "{", "{}{}", "{} x", "nul", "'a'", "{a:1}", "[1,]", "\u{feff}{}", "NaN", "\"\\ud800\""]
        {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_and_number_of_values_are_capped() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(refusal(&nested(MAX_DEPTH + 1)).contains("nested deeper than 64"));
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(refusal(&many).contains("more than 1000000 values"));
    }
}
