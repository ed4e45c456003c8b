//! Sparse files in archives (GNU tar manual, "Storing Sparse Files"): the PAX forms 0.0, 0.1 and 1.0. (The
//! old GNU form has its map in the header; `archive` reads it.)

use std::io::{self, Read};

/// A stretch of data: where it goes, and how long it is.
pub type Segment = (u64, u64);

/// The longest map taken: a file with a million holes is an attack.
const MAX_SEGMENTS: usize = 1_000_000;

/// What the PAX records of an entry say of its holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    /// The real name, in place of the made-up one of the entry.
    pub name: Option<Vec<u8>>,
    size: Option<u64>,
    map: Vec<u64>,
    in_data: bool,
    is_sparse: bool,
}

fn number(text: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| invalid("a number is not one"))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sparse file: {reason}"))
}

impl Sparse {
    /// Takes one PAX record; those of other matters are passed over.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"GNU.sparse.major" => {
                self.in_data = number(value)? == 1;
                self.is_sparse = true;
            }
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.size = Some(number(value)?);
                self.is_sparse = true;
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.map.push(number(value)?),
            b"GNU.sparse.map" => {
                self.map = value.split(|byte| *byte == b',').map(number).collect::<io::Result<_>>()?;
            }
            _ => {}
        }
        if self.map.len() > 2 * MAX_SEGMENTS {
            return Err(invalid("too many segments"));
        }
        Ok(())
    }

    /// The segments and the file's whole size, if it is sparse; in form 1.0 the map stands before the data and is read here.
    pub fn segments(&self, data: &mut impl Read) -> io::Result<Option<(Vec<Segment>, u64)>> {
        if !self.is_sparse {
            return Ok(None);
        }
        let size = self.size.ok_or_else(|| invalid("no size"))?;
        let numbers = if self.in_data { read_map(data)? } else { self.map.clone() };
        let segments = check(&numbers, size)?;
        Ok(Some((segments, size)))
    }
}

/// Offsets and lengths as segments of a file of this size: in order, apart, inside.
pub(crate) fn check(numbers: &[u64], size: u64) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::with_capacity(numbers.len() / 2);
    let mut end = 0_u64;
    for pair in numbers.chunks(2) {
        let &[offset, length] = pair else { return Err(invalid("an offset without a length")) };
        let next = offset.checked_add(length).filter(|next| offset >= end && *next <= size);
        end = next.ok_or_else(|| invalid("segments overlap or lie behind the end"))?;
        segments.push((offset, length));
    }
    Ok(segments)
}

/// Form 1.0: decimal numbers, a line each, the count of segments first, padded to a block of 512 bytes.
fn read_map(data: &mut impl Read) -> io::Result<Vec<u64>> {
    let mut block = [0_u8; 512];
    let mut numbers = Vec::new();
    let mut digits = Vec::new();
    let mut wanted = None;
    loop {
        data.read_exact(&mut block)?;
        for byte in block {
            if wanted == Some(numbers.len()) {
                break;
            }
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(invalid("a number is too long"));
                }
                continue;
            }
            let value = number(&digits)?;
            digits.clear();
            match wanted {
                None => {
                    let count = usize::try_from(value).ok().filter(|count| *count <= MAX_SEGMENTS);
                    wanted = Some(count.ok_or_else(|| invalid("too many segments"))? * 2);
                }
                Some(_) => numbers.push(value),
            }
        }
        if wanted == Some(numbers.len()) {
            return Ok(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(records: &[(&str, &str)]) -> Sparse {
        let mut sparse = Sparse::default();
        for (key, value) in records {
            sparse.record(key.as_bytes(), value.as_bytes()).unwrap();
        }
        sparse
    }

    #[test]
    fn reads_all_three_forms() {
        let wanted = Some((vec![(0, 4), (100, 5)], 200));
        let old = [
            ("GNU.sparse.size", "200"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "4"),
            ("GNU.sparse.offset", "100"),
            ("GNU.sparse.numbytes", "5"),
        ];
        assert_eq!(sparse(&old).segments(&mut io::empty()).unwrap(), wanted);
        let mid = [("GNU.sparse.size", "200"), ("GNU.sparse.map", "0,4,100,5"), ("GNU.sparse.name", "x")];
        assert_eq!(sparse(&mid).segments(&mut io::empty()).unwrap(), wanted);
        assert_eq!(sparse(&mid).name.as_deref(), Some(&b"x"[..]));
        let new = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "200")];
        let mut data = b"2\n0\n4\n100\n5\n".to_vec();
        data.resize(512, 0);
        data.extend(b"rest");
        let mut data = &data[..];
        assert_eq!(sparse(&new).segments(&mut data).unwrap(), wanted);
        assert_eq!(data, b"rest");
        assert_eq!(sparse(&[("path", "x")]).segments(&mut io::empty()).unwrap(), None);
    }

    #[test]
    fn refuses_nonsense() {
        for map in ["0,4,2,5", "0,300", "5", "x"] {
            let mut sparse = sparse(&[("GNU.sparse.size", "200")]);
            let refused =
                sparse.record(b"GNU.sparse.map", map.as_bytes()).is_err() || sparse.segments(&mut io::empty()).is_err();
            assert!(refused, "{map}");
        }
    }
}
