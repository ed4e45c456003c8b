//! The frame of a gzip stream (RFC 1952): headers, trailers, several members, and zeros after the last.
//!
//! What lies between a header and its trailer is undone by an [`Inflate`]. Whichever that is, a stream is whole or damaged for
//! the same reasons: the checksum and the length in the trailer must be right, bits that the format reserves must not be set,
//! a header's own checksum must be right if it has one, and after a member comes another, zeros, or the end.

use std::io::{self, BufRead, Read};

use crate::inflate::Inflate;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
const TRAILER: usize = 8;
/// A name or a comment in a header is at most so long.
const TEXT_BYTES: usize = 65_535;

/// Undoes gzip.
pub(crate) struct Gzip<R: BufRead> {
    source: R,
    engine: Box<dyn Inflate>,
    at: At,
    /// What came out of this member, modulo 2^32 as the trailer has it.
    length: u32,
}

#[derive(Clone, Copy)]
enum At {
    Header,
    Body,
    Between,
    Padding,
}

impl<R: BufRead> Gzip<R> {
    pub(crate) fn new(source: R, engine: Box<dyn Inflate>) -> Self {
        Self { source, engine, at: At::Header, length: 0 }
    }

    /// Reads a header to its end; nothing in it matters but whether it is one.
    fn header(&mut self) -> io::Result<()> {
        let mut head = Head { source: &mut self.source, crc: flate2::Crc::new() };
        let [magic, magic_too, method, flags, ..] = head.take::<10>()?;
        if [magic, magic_too, method] != [0x1f, 0x8b, 8] || flags & RESERVED != 0 {
            return Err(damaged("invalid gzip header"));
        }
        if flags & FEXTRA != 0 {
            let length = u16::from_le_bytes(head.take()?);
            for _ in 0..length {
                head.take::<1>()?;
            }
        }
        for text in [FNAME, FCOMMENT] {
            if flags & text != 0 {
                head.text()?;
            }
        }
        if flags & FHCRC != 0 {
            let expected = head.crc.sum() as u16;
            if u16::from_le_bytes(head.take()?) != expected {
                return Err(damaged("the gzip header does not have a matching checksum"));
            }
        }
        Ok(())
    }

    /// Something of the body; nothing at its end, when the trailer was found right.
    fn body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.source.fill_buf()?;
            let no_more = input.is_empty();
            let step = self.engine.step(input, buffer)?;
            self.source.consume(step.read);
            self.length = self.length.wrapping_add(step.written as u32);
            if step.ended {
                self.trailer()?;
                return Ok(step.written);
            }
            if step.written > 0 {
                return Ok(step.written);
            }
            if no_more {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if step.read == 0 {
                return Err(damaged("the inflater neither takes input nor gives output"));
            }
        }
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = self.engine.behind();
        trailer.truncate(TRAILER);
        let missing = TRAILER - trailer.len();
        self.source.by_ref().take(missing as u64).read_to_end(&mut trailer)?;
        let Ok([a, b, c, d, e, f, g, h]) = <[u8; TRAILER]>::try_from(trailer) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let (crc, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if (crc, length) != (self.engine.crc(), self.length) {
            return Err(damaged("corrupt gzip stream does not have a matching checksum"));
        }
        self.engine.reset();
        self.length = 0;
        self.at = At::Between;
        Ok(())
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.at {
                At::Header => {
                    self.header()?;
                    self.at = At::Body;
                }
                At::Body => {
                    let read = self.body(buffer)?;
                    if read > 0 {
                        return Ok(read);
                    }
                }
                At::Between => match self.source.fill_buf()?.first() {
                    None => return Ok(0),
                    Some(0) => self.at = At::Padding,
                    Some(_) => self.at = At::Header,
                },
                At::Padding => {
                    let rest = self.source.fill_buf()?;
                    if rest.is_empty() {
                        return Ok(0);
                    }
                    if rest.iter().any(|byte| *byte != 0) {
                        return Err(damaged("something else follows the end of the gzip stream"));
                    }
                    let length = rest.len();
                    self.source.consume(length);
                }
            }
        }
    }
}

/// A header that is being read.
struct Head<'a, R> {
    source: &'a mut R,
    crc: flate2::Crc,
}

impl<R: BufRead> Head<'_, R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    /// Text that ends with a zero.
    fn text(&mut self) -> io::Result<()> {
        for _ in 0..=TEXT_BYTES {
            if self.take::<1>()? == [0] {
                return Ok(());
            }
        }
        Err(damaged("a text in the gzip header is too long"))
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
