//! A transport of one's own: links over Unix domain sockets, scheme `unix`.
//!
//! The address `unix://Home@localhost:7` is the socket `localhost-7` in a directory that the nodes share.
//!
//! `cargo run --example custom_transport`

#![expect(clippy::print_stdout, reason = "shows what it does")]

#[cfg(not(unix))]
fn main() {
    println!("there are no Unix domain sockets here");
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Runtime::new()?.block_on(unix::run())
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    use async_trait::async_trait;
    use tellwire::node::{Context, Node};
    use tellwire::transport::{Link, Listener, Privacy, Transport, TransportError};
    use tellwire::{Address, Endpoint};
    use tokio::net::{UnixListener, UnixStream};

    /// Opens links between processes that share a directory.
    #[derive(Debug, Clone)]
    struct UnixSockets {
        directory: PathBuf,
    }

    impl UnixSockets {
        fn socket(&self, endpoint: &Endpoint) -> PathBuf {
            self.directory.join(format!("{}-{}", endpoint.host(), endpoint.port()))
        }

        fn bind(&self, endpoint: Endpoint) -> Result<Box<dyn Listener>, TransportError> {
            let path = self.socket(&endpoint);
            match UnixListener::bind(&path) {
                Ok(listener) => Ok(Box::new(Socket { endpoint, path, listener })),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    Err(TransportError::AddressInUse { endpoint })
                }
                Err(source) => Err(TransportError::Bind { endpoint, source }),
            }
        }
    }

    #[async_trait]
    impl Transport for UnixSockets {
        fn scheme(&self) -> &'static str {
            SCHEME
        }

        /// Promises no more than TCP: the directory's permissions decide who can listen in.
        fn privacy(&self) -> Privacy {
            Privacy::Plaintext
        }

        async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
            TransportError::check_scheme(SCHEME, at.scheme())?;
            if at.port() > 0 {
                return self.bind(at.clone());
            }
            let mut ports = (1..=u16::MAX).map(|port| self.bind(at.with_port(port)));
            let bound =
                ports.find(|bound| !matches!(bound, Err(TransportError::AddressInUse { .. })));
            bound.unwrap_or_else(|| Err(TransportError::AddressInUse { endpoint: at.clone() }))
        }

        async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
            TransportError::check_scheme(SCHEME, to.scheme())?;
            let endpoint = to.endpoint();
            match UnixStream::connect(self.socket(&endpoint)).await {
                Ok(stream) => Ok(link(stream, endpoint.to_string())),
                Err(source) => Err(TransportError::Unreachable { endpoint, source }),
            }
        }
    }

    /// Accepts links, and removes its socket when it is dropped.
    #[derive(Debug)]
    struct Socket {
        endpoint: Endpoint,
        path: PathBuf,
        listener: UnixListener,
    }

    #[async_trait]
    impl Listener for Socket {
        fn endpoint(&self) -> &Endpoint {
            &self.endpoint
        }

        async fn accept(&mut self) -> Result<Link, TransportError> {
            match self.listener.accept().await {
                Ok((stream, _)) => Ok(link(stream, "a dialler".to_owned())),
                Err(source) => Err(TransportError::Accept { source }),
            }
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            if let Err(error) = fs::remove_file(&self.path) {
                eprintln!("{} stays: {error}", self.path.display());
            }
        }
    }

    fn link(stream: UnixStream, remote: String) -> Link {
        let (reader, writer) = stream.into_split();
        Link::new(reader, writer, remote)
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Double(u32);

    tellwire::remote_messages! {
        table NUMBERS, codec = tellwire::codec::Bincode;
        "numbers.v1.Double" => Double,
    }

    pub(crate) async fn run() -> Result<(), Box<dyn std::error::Error>> {
        let directory = std::env::temp_dir().join(format!("tellwire-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let sockets = UnixSockets { directory: directory.clone() };

        let start =
            || Node::builder("Home").listen("unix://localhost:0").transport(sockets.clone());
        let (ada, bob) = (start().start().await?, start().start().await?);
        println!("{} asks {}", bob.address(), ada.address());
        ada.spawn("/user/twice", async |Double(n): Double, cx: &mut Context| {
            cx.reply(&Double(n * 2))
        })?;
        let twice = bob.resolve(ada.path("/user/twice")?)?;
        let Double(answer) = twice.ask(&Double(21), WAIT).await?;
        println!("twice 21 is {answer}");
        assert_eq!(answer, 42);
        assert_eq!(fs::read_dir(&directory)?.count(), 2);

        bob.shutdown(WAIT).await;
        ada.shutdown(WAIT).await;
        // Fails unless both listeners have removed their sockets.
        fs::remove_dir(&directory)?;
        Ok(())
    }

    const SCHEME: &str = "unix";
    const WAIT: Duration = Duration::from_secs(5);
}
