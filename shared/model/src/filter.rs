//! containerd's filter language: which records of a list are wanted.
//!
//! ```text
//! filter   = selector { "," selector }            all of them hold
//! selector = field { "." field } [ op value ]     no op: the field is there and not empty
//! op       = "==" | "!=" | "~="                   "~=": a regular expression (RE2) is found in the value
//! field    = name | quoted
//! value    = word | quoted                        a word ends at a comma or a blank
//! quoted   = "..." with Go's escapes; after "~=" also /.../ and |...|, in which the quote is escaped likewise
//! ```
//!
//! Of several filters one must hold. A field that is not there equals nothing: `!=` holds and `~=` looks at empty text.

mod parse;

use std::borrow::Cow;

use regex::Regex;

use crate::{Status, labels::Labels};

/// What filters look at: the fields of a record.
pub trait Fields {
    /// The value of a field; none if there is no such field.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

/// A list of filters, of which one must hold. Without any, everything is wanted.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    any: Vec<Filter>,
}

/// All selectors must hold.
#[derive(Clone, Debug, Default)]
struct Filter {
    all: Vec<Selector>,
}

#[derive(Clone, Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Reads filters. INVALID_ARGUMENT names the place of a mistake.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Status> {
        let any = texts.iter().map(|text| parse::filter(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { any })
    }

    /// Whether the record is wanted.
    #[must_use]
    pub fn matches(&self, record: &impl Fields) -> bool {
        self.any.is_empty() || self.any.iter().any(|filter| filter.all.iter().all(|selector| selector.matches(record)))
    }
}

impl Selector {
    fn matches(&self, record: &impl Fields) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = record.field(&path);
        match &self.test {
            Test::Present => value.is_some_and(|value| !value.is_empty()),
            Test::Equal(wanted) => value.is_some_and(|value| value == wanted.as_str()),
            Test::NotEqual(unwanted) => value.is_none_or(|value| value != unwanted.as_str()),
            Test::Matches(wanted) => wanted.is_match(&value.unwrap_or_default()),
        }
    }
}

/// A label whose key is the rest of a path; keys may hold dots.
#[must_use]
pub fn label<'a>(labels: &'a Labels, key: &[&str]) -> Option<Cow<'a, str>> {
    labels.get(&key.join(".")).map(|value| Cow::Borrowed(value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Record;

    impl Fields for Record {
        fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
            let labels = Labels::from(
                [("foo", "bar"), ("a.b/c", "d e"), ("empty", ""), ("q", "\"x\""), ("more", "caf\u{e9}/|")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned())),
            );
            match path {
                ["name"] => Some("docker.io/library/alpine:3.20".into()),
                ["nothing"] => Some("".into()),
                ["labels", key @ ..] => label(&labels, key).map(|value| Cow::Owned(value.into_owned())),
                _ => None,
            }
        }
    }

    #[test]
    fn what_is_wanted_as_a_table() {
        for (filters, wanted) in [
            (&[][..], true),
            (&[""], true),
            (&["name"], true),
            (&["nothing"], false),
            (&["unknown"], false),
            (&["name==docker.io/library/alpine:3.20"], true),
            (&["name == docker.io/library/alpine:3.20"], true),
            (&["name==other"], false),
            (&["name!=other"], true),
            (&["unknown!=other"], true),
            (&["unknown==other"], false),
            (&["name~=alpine"], true),
            (&["name~=^alpine"], false),
            (&["name~=/library\\/alp/"], true),
            (&["name~=/l.*\\\\.20$/"], true),
            (&["name~=|^docker\\\\.io/|"], true),
            (&["name~=\"al[po]ine\""], true),
            (&["unknown~=^$"], true),
            (&["labels.foo==bar"], true),
            (&["labels.foo"], true),
            (&["labels.empty"], false),
            (&["labels.empty==\"\""], true),
            (&["labels.\"a.b/c\"==\"d e\""], true),
            (&["labels.\"a.b/c\"==d"], false),
            (&["labels.q==\"\\\"x\\\"\""], true),
            (&["labels.more==\"caf\\u00e9/|\""], true),
            (&["labels.more==caf\u{e9}/|"], true),
            (&["name~=alpine,labels.foo==bar"], true),
            (&["name~=alpine , labels.foo==baz"], false),
            (&["name==x", "labels.foo==bar"], true),
            (&["name==x", "labels.foo==baz"], false),
        ] {
            let found = Filters::parse(filters).unwrap_or_else(|error| panic!("{filters:?}: {error}"));
            assert_eq!(found.matches(&Record), wanted, "{filters:?}");
        }
    }
}
