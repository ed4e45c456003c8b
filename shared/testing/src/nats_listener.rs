//! A NATS client of twenty lines: connects, subscribes, hears. It shows that subscribers need nothing of ours.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Where it was published.
    pub subject: String,
    /// `NATS/1.0` and the header lines; empty if there are none.
    pub headers: String,
    /// The rest.
    pub body: Vec<u8>,
}

/// A subscription on a connection of its own.
pub struct Listener {
    stream: TcpStream,
    heard: std::sync::Mutex<BufReader<TcpStream>>,
}

impl Listener {
    /// Connects, subscribes, and waits until the server has seen it.
    pub fn subscribe(address: &str, subject: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let hello =
            r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1,"lang":"test","version":"1"}"#;
        write!(stream, "{hello}\r\nSUB {subject} 1\r\nPING\r\n")?;
        while !line.starts_with("PONG") {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
                bail!("the server said {line:?}");
            }
        }
        Ok(Self { stream, heard: std::sync::Mutex::new(reader) })
    }

    /// The next message; an error if none comes in time.
    pub fn next(&self, limit: Duration) -> Result<Heard> {
        let mut reader = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.stream.set_read_timeout(Some(limit))?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).with_context(|| format!("nothing heard for {limit:?}"))? == 0 {
                bail!("the server closed the connection");
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            // MSG subject sid [reply] total / HMSG subject sid [reply] headers total
            let (headers, total) = match words.as_slice() {
                ["MSG", .., total] => (0, total.parse::<usize>()?),
                ["HMSG", .., headers, total] => (headers.parse()?, total.parse()?),
                ["PING", ..] => {
                    (&self.stream).write_all(b"PONG\r\n")?;
                    continue;
                }
                _ => continue,
            };
            let subject = words.get(1).copied().unwrap_or_default().to_owned();
            let mut bytes = vec![0; total + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(total);
            let body = bytes.split_off(headers.min(total));
            return Ok(Heard { subject, headers: String::from_utf8_lossy(&bytes).into_owned(), body });
        }
    }
}
