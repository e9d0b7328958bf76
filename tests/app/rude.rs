//! An app without manners, for `RUDE=1`: what it does depends on the path.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// `/garbage` is answered with something that is not HTTP, `/cut` with half of the promised body, `/silent` by closing
/// without a word, `/close` with an answer and then a close that it did not announce, `/fresh` by closing unless it is
/// the first request of its connection; everything else properly.
pub async fn serve(port: u16, note: impl Fn(&str) + Clone + Send + 'static) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, note.clone()));
    }
}

async fn answer(mut stream: TcpStream, note: impl Fn(&str)) {
    let (mut received, mut turn) = (Vec::new(), 0);
    let mut chunk = [0; 4096];
    loop {
        while !received.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(read @ 1..) => received.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        }
        let header = String::from_utf8_lossy(&received).into_owned();
        received.clear();
        turn += 1;
        let line = header.lines().next().unwrap_or_default();
        note(line.trim_end_matches(" HTTP/1.1"));
        let path = line.split(' ').nth(1).unwrap_or_default();
        let reply: &[u8] = match path {
            "/garbage" => b"\x16\x03\x01 I speak no HTTP\r\n\r\n",
            "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "/silent" => b"",
            "/fresh" if turn > 1 => return,
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine\n",
        };
        let _ = stream.write_all(reply).await;
        if matches!(path, "/garbage" | "/cut" | "/silent" | "/close") {
            return;
        }
    }
}
