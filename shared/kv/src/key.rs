//! Keys: an order-preserving code. The order of tuples is the order of their bytes, so a scan of a prefix is a scan of
//! all tuples that begin so.
//!
//! Strings: their bytes with `00` written as `00 ff`, ended by `00 01`. Integers: eight bytes, big endian. Hashes: as
//! they are. Nothing else, and no lengths: a length before its bytes would break the order.

use berth_model::{Digest, Status};

/// A value that can be (part of) a key.
pub trait Key: Sized {
    /// Appends the code.
    fn encode(&self, out: &mut KeyWriter);
    /// Reads it back.
    fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status>;

    /// The code alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = KeyWriter::default();
        self.encode(&mut out);
        out.bytes
    }
}

/// Collects the code of a key.
#[derive(Debug, Default)]
pub struct KeyWriter {
    bytes: Vec<u8>,
}

impl KeyWriter {
    /// Appends text.
    pub fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xff);
            }
        }
        self.bytes.extend([0, 1]);
    }

    /// Appends bytes of a fixed length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Reads the code of a key.
#[derive(Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// A reader of a whole key.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads text.
    pub fn text(&mut self) -> Result<String, Status> {
        let mut bytes = Vec::new();
        loop {
            match self.rest {
                [0, 1, rest @ ..] => {
                    self.rest = rest;
                    return String::from_utf8(bytes).map_err(|_not_utf8| damaged());
                }
                [0, 0xff, rest @ ..] => {
                    bytes.push(0);
                    self.rest = rest;
                }
                [0, ..] | [] => return Err(damaged()),
                [byte, rest @ ..] => {
                    bytes.push(*byte);
                    self.rest = rest;
                }
            }
        }
    }

    /// Reads bytes of a fixed length.
    pub fn raw<const N: usize>(&mut self) -> Result<[u8; N], Status> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Refuses bytes left over.
    pub fn end(&self) -> Result<(), Status> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

fn damaged() -> Status {
    Status::data_loss("a stored key is damaged")
}

impl Key for String {
    fn encode(&self, out: &mut KeyWriter) {
        out.text(self);
    }
    fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status> {
        reader.text()
    }
}

impl Key for u64 {
    fn encode(&self, out: &mut KeyWriter) {
        out.raw(&self.to_be_bytes());
    }
    fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status> {
        reader.raw().map(u64::from_be_bytes)
    }
}

impl Key for [u8; 32] {
    fn encode(&self, out: &mut KeyWriter) {
        out.raw(self);
    }
    fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status> {
        reader.raw()
    }
}

impl Key for Digest {
    fn encode(&self, out: &mut KeyWriter) {
        out.raw(self.as_bytes());
    }
    fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status> {
        reader.raw().map(Digest::from_sha256)
    }
}

/// The empty prefix: every key begins with it.
impl Key for () {
    fn encode(&self, _out: &mut KeyWriter) {}
    fn decode(_reader: &mut KeyReader<'_>) -> Result<Self, Status> {
        Ok(())
    }
}

macro_rules! tuples {
    ($(($($part:ident $place:tt),+);)*) => {
        $(impl<$($part: Key),+> Key for ($($part,)+) {
            fn encode(&self, out: &mut KeyWriter) {
                $(self.$place.encode(out);)+
            }
            fn decode(reader: &mut KeyReader<'_>) -> Result<Self, Status> {
                Ok(($($part::decode(reader)?,)+))
            }
        })*
    };
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stored_form_stays() {
        let key = ("a\0b".to_owned(), 258_u64, String::new());
        assert_eq!(key.to_bytes(), [b'a', 0, 0xff, b'b', 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 1]);
        assert_eq!(Digest::of(b"").to_bytes().len(), 32);
    }

    proptest! {
        #[test]
        fn order_and_value_survive(a in any::<(String, u64, String)>(), b in any::<(String, u64, String)>()) {
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            let bytes = a.to_bytes();
            let mut reader = KeyReader::new(&bytes);
            prop_assert_eq!(<(String, u64, String)>::decode(&mut reader).unwrap(), a.clone());
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn a_prefix_never_takes_in_a_neighbour(a in "[a-c\0]{0,3}", b in "[a-c\0]{0,3}", rest in any::<String>()) {
            let begins = (b.clone(), rest).to_bytes().starts_with(&a.clone().to_bytes());
            prop_assert_eq!(begins, a == b);
        }

        #[test]
        fn damaged_keys_are_refused_not_believed(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            drop(<(String, u64)>::decode(&mut KeyReader::new(&bytes)));
        }
    }
}
