//! A listening port of a simulator that can be shut like a real one, and whose connections can be cut.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
};

/// A port on loopback behind which a router of axum answers.
pub struct Door {
    port: u16,
    hinge: Arc<Hinge>,
}

impl Door {
    /// Listens on the port, 0 for a free one, and serves in the background as long as the runtime lives.
    pub fn open(port: u16, router: Router) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let hinge = Arc::new(Hinge::default());
        let listener = Some(TcpListener::from_std(listener).unwrap());
        let gate = Gate { address, listener, hinge: hinge.clone() };
        let service = router.into_make_service_with_connect_info::<Cord>();
        tokio::spawn(async move { axum::serve(gate, service).await });
        Self { port: address.port(), hinge }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Refuses connections from now on, and ends those that are there.
    pub fn shut(&self) {
        let cords = {
            let mut leaf = self.hinge.leaf.lock().unwrap();
            leaf.shut = true;
            std::mem::take(&mut leaf.cords)
        };
        cords.iter().filter_map(Weak::upgrade).for_each(|cord| cord.cut());
        self.hinge.moved.notify_one();
    }

    /// Listens again, on the same port.
    pub fn reopen(&self) {
        let mut leaf = self.hinge.leaf.lock().unwrap();
        leaf.shut = false;
        if let Some(socket) = leaf.held.take() {
            leaf.reopened = Some(socket.listen(1024).unwrap());
        }
        drop(leaf);
        self.hinge.moved.notify_one();
    }
}

/// What a door and its accepting side share.
#[derive(Default)]
struct Hinge {
    leaf: Mutex<Leaf>,
    moved: Notify,
}

#[derive(Default)]
struct Leaf {
    shut: bool,
    /// Bound but not listening: connections are refused and nobody else gets the port.
    held: Option<TcpSocket>,
    reopened: Option<TcpListener>,
    cords: Vec<Weak<Pull>>,
}

/// The accepting side.
struct Gate {
    address: SocketAddr,
    listener: Option<TcpListener>,
    hinge: Arc<Hinge>,
}

impl Gate {
    fn hold_port(&mut self) {
        self.listener = None;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let mut leaf = self.hinge.leaf.lock().unwrap();
        if leaf.shut {
            leaf.held = Some(socket);
        } else {
            leaf.reopened = Some(socket.listen(1024).unwrap());
        }
    }

    /// A connection, unless the door was shut meanwhile.
    fn admit(&self, stream: TcpStream) -> Option<Line> {
        let mut leaf = self.hinge.leaf.lock().unwrap();
        if leaf.shut {
            return None;
        }
        let _ = stream.set_nodelay(true);
        let pull = Arc::new(Pull::default());
        leaf.cords.retain(|cord| cord.strong_count() > 0);
        leaf.cords.push(Arc::downgrade(&pull));
        let waits = pull.clone();
        let torn = Box::pin(async move { waits.pulled.notified().await });
        Some(Line { stream, cord: Cord(pull), torn })
    }
}

impl Listener for Gate {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            if let Some(listener) = self.hinge.leaf.lock().unwrap().reopened.take() {
                self.listener = Some(listener);
            }
            let shut = self.hinge.leaf.lock().unwrap().shut;
            match &self.listener {
                Some(_) if shut => self.hold_port(),
                Some(listener) => tokio::select! {
                    () = self.hinge.moved.notified() => {}
                    accepted = listener.accept() => {
                        let Ok((stream, peer)) = accepted else { continue };
                        if let Some(line) = self.admit(stream) {
                            return (line, peer);
                        }
                    }
                },
                None => self.hinge.moved.notified().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Ends one connection without another byte. Handlers find it in `ConnectInfo`.
#[derive(Clone)]
pub struct Cord(Arc<Pull>);

#[derive(Default)]
struct Pull {
    cut: AtomicBool,
    pulled: Notify,
}

impl Pull {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.pulled.notify_one();
    }
}

impl Cord {
    /// Cuts the connection.
    pub fn pull(&self) {
        self.0.cut();
    }
}

impl Connected<IncomingStream<'_, Gate>> for Cord {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Self {
        stream.io().cord.clone()
    }
}

/// A connection that can be cut.
pub struct Line {
    stream: TcpStream,
    cord: Cord,
    torn: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Line {
    fn is_cut(&self) -> bool {
        self.cord.0.cut.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut() || self.torn.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
