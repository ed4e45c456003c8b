//! A port of one's own, also between starts: tests run side by side, and a server that is down must find it free again.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};

/// Below the ports that the kernel gives to connections (32768 and up), so that none of those is in the way.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port reserved among all tests of this machine, until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Locked; the lock ends with the process, however it ends.
    _reservation: File,
}

impl Port {
    /// A port that nobody listens on and no other test has.
    pub fn reserve() -> Result<Self> {
        let directory = directory();
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        for _attempt in 0..200 {
            let number = rand::random_range(PORTS);
            let path = directory.join(number.to_string());
            let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
            let free = || {
                TcpListener::bind(("127.0.0.1", number)).is_ok() && TcpStream::connect(("127.0.0.1", number)).is_err()
            };
            if file.try_lock().is_ok() && free() {
                return Ok(Self { number, _reservation: file });
            }
        }
        bail!("no free port from {} to {}", PORTS.start, PORTS.end)
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn directory() -> PathBuf {
    std::env::temp_dir().join("berth-test-ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_reserved_port() -> Result<()> {
        let ports = (0..300).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
        Ok(())
    }
}
