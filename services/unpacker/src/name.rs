//! Names in a layer: made plain, and told apart from whiteouts (OCI image-spec, `layer.md#whiteouts`). Pure.

use std::cmp::Ordering;

use crate::error::ApplyError;

/// A place below the root of a layer: its components, none of them empty, `.` or `..`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<Vec<u8>>", into = "Vec<Vec<u8>>")]
pub struct Place {
    /// The components with slashes between: one piece of memory, for each entry of a layer has several places.
    path: Vec<u8>,
}

impl Place {
    /// Reads a name. A leading `/` is dropped, as tar and containerd do; `..` may climb, but not out of the layer.
    pub fn parse(name: &[u8]) -> Result<Self, ApplyError> {
        if name.contains(&0) {
            return Err(ApplyError::hostile(name, "a name cannot hold a zero byte"));
        }
        let mut place = Self { path: Vec::with_capacity(name.len()) };
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if !place.climb() {
                        return Err(ApplyError::hostile(
                            name,
                            "the name leads out of the layer; the image is hostile or broken",
                        ));
                    }
                }
                part => place.descend(part),
            }
        }
        Ok(place)
    }

    /// The components with slashes between; nothing for the root.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The root of the layer.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The components.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        // Splitting nothing gives one empty part.
        self.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// How many components it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        let slashes = self.path.iter().filter(|byte| **byte == b'/').count();
        if self.is_root() { 0 } else { slashes + 1 }
    }

    /// The directory it is in, and its own name there; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(Place, &[u8])> {
        let (above, name) = split(&self.path)?;
        Some((Place { path: above.to_vec() }, name))
    }

    /// The directories above it, from the root down.
    pub fn above(&self) -> impl Iterator<Item = Place> {
        let ends = self.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let root = (!self.is_root()).then_some(0);
        root.into_iter().chain(ends).filter_map(|end| Some(Place { path: self.path.get(..end)?.to_vec() }))
    }

    /// One below.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Place {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        let mut place = Place { path };
        place.descend(name);
        place
    }

    fn descend(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// Becomes the directory it is in; `false` for the root.
    pub fn climb(&mut self) -> bool {
        let Some((above, _)) = split(&self.path) else { return false };
        let length = above.len();
        self.path.truncate(length);
        true
    }

    /// Whether it is this directory, or below it.
    #[must_use]
    pub fn is_in(&self, dir: &Place) -> bool {
        self.rest(dir).is_some()
    }

    /// What follows the slash behind a directory that it is, or is below.
    fn rest(&self, dir: &Place) -> Option<&[u8]> {
        match self.path.strip_prefix(dir.path.as_slice())? {
            rest if dir.is_root() || rest.is_empty() => Some(rest),
            rest => rest.strip_prefix(b"/"),
        }
    }

    /// The same place after `from` was moved to `to`; `None` if it is not there or below.
    #[must_use]
    pub fn moved(&self, from: &Place, to: &Place) -> Option<Place> {
        Some(match self.rest(from)? {
            b"" => to.clone(),
            rest => to.join(rest),
        })
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        crate::error::shown(&self.path)
    }
}

/// What is above the last component of a path, and that component; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = path.rsplitn(2, |byte| *byte == b'/');
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some((parts.next().unwrap_or_default(), name))
}

impl Ord for Place {
    /// Component by component, so that a directory is followed by what is in it.
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Vec<Vec<u8>>> for Place {
    fn from(parts: Vec<Vec<u8>>) -> Self {
        Self { path: parts.join(&b'/') }
    }
}

impl From<Place> for Vec<Vec<u8>> {
    fn from(place: Place) -> Self {
        place.parts().map(<[u8]>::to_vec).collect()
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
    let Some((above, base)) = split(&place.path) else { return Ok(Wish::Entry(place)) };
    let Some(hidden) = base.strip_prefix(b".wh.") else { return Ok(Wish::Entry(place)) };
    let parent = Place { path: above.to_vec() };
    match hidden {
        b".wh..opq" => Ok(Wish::Opaque(parent)),
        hidden if hidden.starts_with(b".wh.") => Ok(Wish::Ignored),
        b"" | b"." | b".." => Err(ApplyError::hostile(name, "a whiteout must name what it hides")),
        hidden => Ok(Wish::Whiteout(parent.join(hidden))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place { path: text.as_bytes().to_vec() }
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
    fn a_place_is_its_components() {
        let deep = place("a/bc/d");
        assert_eq!(deep.parts().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        assert_eq!((deep.depth(), place("").depth()), (3, 0));
        assert_eq!(deep.split(), Some((place("a/bc"), &b"d"[..])));
        assert_eq!((place("a").split(), place("").split()), (Some((place(""), &b"a"[..])), None));
        assert_eq!(deep.above().collect::<Vec<_>>(), [place(""), place("a"), place("a/bc")]);
        assert_eq!(place("").above().count(), 0);
        assert_eq!(place("").join(b"x").join(b"y"), place("x/y"));
        let mut here = place("x/y");
        assert!(here.climb() && here == place("x") && here.climb() && here.is_root() && !here.climb());
        for (inner, outer) in [("a/b", "a"), ("a", "a"), ("a", ""), ("", "")] {
            assert!(place(inner).is_in(&place(outer)), "{inner:?} in {outer:?}");
        }
        for (one, other) in [("ab", "a"), ("", "a"), ("b/a", "a")] {
            assert!(!place(one).is_in(&place(other)), "{one:?} in {other:?}");
        }
        let mut sorted = [place("a-b"), place("a/z"), place("b"), place("a"), place("")];
        sorted.sort();
        assert_eq!(
            sorted,
            [place(""), place("a"), place("a/z"), place("a-b"), place("b")],
            "a directory, then what is in it"
        );
        let written = serde_json::to_string(&deep).unwrap();
        assert_eq!(written, "[[97],[98,99],[100]]", "as it is in stores");
        assert_eq!(serde_json::from_str::<Place>(&written).unwrap(), deep);
    }

    #[test]
    fn places_move_with_their_directory() {
        assert_eq!(place("lib/x/y").moved(&place("lib"), &place("usr/lib")), Some(place("usr/lib/x/y")));
        assert_eq!(place("library").moved(&place("lib"), &place("usr/lib")), None);
    }
}
