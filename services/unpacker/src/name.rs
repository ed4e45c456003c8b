//! Names in a layer: made plain, and told apart from whiteouts (OCI image-spec, `layer.md#whiteouts`). Pure.

use crate::error::ApplyError;

/// A place below the root of a layer: its components, none of them empty, `.` or `..`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Place(pub Vec<Vec<u8>>);

impl Place {
    /// Reads a name. A leading `/` is dropped, as tar and containerd do; `..` may climb, but not out of the layer.
    pub fn parse(name: &[u8]) -> Result<Self, ApplyError> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if name.contains(&0) {
            return Err(ApplyError::hostile(name, "a name cannot hold a zero byte"));
        }
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if parts.pop().is_none() {
                        return Err(ApplyError::hostile(
                            name,
                            "the name leads out of the layer; the image is hostile or broken",
                        ));
                    }
                }
                part => parts.push(part.to_vec()),
            }
        }
        Ok(Self(parts))
    }

    /// The directory it is in, and its own name there; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(Place, &[u8])> {
        let (last, above) = self.0.split_last()?;
        Some((Place(above.to_vec()), last))
    }

    /// One below.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Place {
        let mut parts = self.0.clone();
        parts.push(name.to_vec());
        Place(parts)
    }

    /// The same place after `from` was moved to `to`; `None` if it is not there or below.
    #[must_use]
    pub fn moved(&self, from: &Place, to: &Place) -> Option<Place> {
        let rest = self.0.strip_prefix(from.0.as_slice())?;
        Some(Place(to.0.iter().chain(rest).cloned().collect()))
    }

    /// With slashes between, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        crate::error::shown(&self.0.join(&b'/'))
    }
}

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An entry at this place.
    Entry(Place),
    /// What lower layers have here is gone.
    Whiteout(Place),
    /// What lower layers have in this directory is gone.
    Opaque(Place),
    /// Bookkeeping of aufs: nothing.
    Ignored,
}

/// Tells what a name asks for.
pub fn wish(name: &[u8]) -> Result<Wish, ApplyError> {
    let place = Place::parse(name)?;
    let Some((parent, base)) = place.split() else { return Ok(Wish::Entry(place)) };
    let Some(hidden) = base.strip_prefix(b".wh.") else { return Ok(Wish::Entry(place)) };
    match hidden {
        b".wh..opq" => Ok(Wish::Opaque(parent)),
        hidden if hidden.starts_with(b".wh.") => Ok(Wish::Ignored),
        b"" | b"." | b".." => Err(ApplyError::hostile(name, "a whiteout must name what it hides")),
        hidden => {
            let hidden = parent.join(hidden);
            Ok(Wish::Whiteout(hidden))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place(text.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect())
    }

    #[test]
    fn names_are_made_plain_or_refused() {
        for (name, plain) in
            [("a/b", "a/b"), ("./a//b/", "a/b"), ("/etc/x", "etc/x"), ("a/../b", "b"), ("./", ""), ("...", "...")]
        {
            assert_eq!(Place::parse(name.as_bytes()).unwrap(), place(plain), "{name}");
        }
        for hostile in ["..", "../x", "a/../../x", "/../x", "a\0b"] {
            assert!(matches!(Place::parse(hostile.as_bytes()), Err(ApplyError::Hostile { .. })), "{hostile:?}");
        }
    }

    #[test]
    fn whiteouts_are_told_apart() {
        for (name, wanted) in [
            ("a/.wh.b", Wish::Whiteout(place("a/b"))),
            (".wh.b", Wish::Whiteout(place("b"))),
            ("a/.wh..wh..opq", Wish::Opaque(place("a"))),
            (".wh..wh..opq", Wish::Opaque(place(""))),
            (".wh..wh.plnk", Wish::Ignored),
            ("a/.wh", Wish::Entry(place("a/.wh"))),
            ("a/.whb", Wish::Entry(place("a/.whb"))),
            ("a/.wh....", Wish::Whiteout(place("a/..."))),
        ] {
            assert_eq!(wish(name.as_bytes()).unwrap(), wanted, "{name}");
        }
        for bad in [".wh.", "a/.wh..", "a/.wh..."] {
            assert!(wish(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_move_with_their_directory() {
        assert_eq!(place("lib/x/y").moved(&place("lib"), &place("usr/lib")), Some(place("usr/lib/x/y")));
        assert_eq!(place("library").moved(&place("lib"), &place("usr/lib")), None);
    }
}
