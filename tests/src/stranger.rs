//! Somebody without credentials, at an address of their own: the loopback network has sixteen million.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fixtures::intruder::dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::Http;

/// Time between two attempts of one of a crowd: a flood, and yet not all of this machine's time.
const PACE: Duration = Duration::from_millis(200);

/// Where somebody comes from.
#[derive(Clone, Copy, Debug)]
pub struct Stranger(Ipv4Addr);

impl Stranger {
    /// At `127.0.0.number`.
    pub fn at(number: u8) -> Self {
        Self(Ipv4Addr::new(127, 0, 0, number))
    }

    /// A connection from there.
    pub async fn connect(self, to: SocketAddr) -> io::Result<TcpStream> {
        dial(to, self.0).await
    }

    /// Sends `bytes`, and reads whatever comes until the other end closes.
    pub async fn tell(self, to: SocketAddr, bytes: &[u8]) -> io::Result<String> {
        let mut stream = self.connect(to).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        // A reset is an end too; what came before it counts.
        let _ = stream.read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A request over a connection of its own, after `first`; status and head of the answer.
    pub async fn ask(self, http: &Http, to: SocketAddr, first: &[u8], head: &str) -> io::Result<String> {
        let mut tcp = self.connect(to).await?;
        tcp.write_all(first).await?;
        let mut stream = http.over(tcp).await?;
        stream.write_all(format!("{head}host: gate\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Many connections that say `opening` and then nothing, until the answer is dropped. Who is turned away comes back.
    pub fn press(self, to: SocketAddr, opening: &'static [u8], many: usize) -> JoinSet<()> {
        let mut crowd = JoinSet::new();
        for _ in 0..many {
            crowd.spawn(async move {
                loop {
                    let _ = self.tell(to, opening).await;
                    tokio::time::sleep(PACE).await;
                }
            });
        }
        crowd
    }
}
