//! The bare work of a pull: gunzips a layer and hashes both sides of it, and keeps nothing. Each of
//! the three steps has a thread, so that two processors are as busy as they can be.

use std::env::args;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

const BUFFER: usize = 128 << 10;

fn main() -> io::Result<()> {
    for path in args().skip(1) {
        let (compressed, blob) = sync_channel(8);
        let (decompressed, plain) = sync_channel(8);
        let digests = thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut hash = Sha256::new();
                pass_on(File::open(path)?, &compressed, |chunk| hash.update(chunk))?;
                io::Result::Ok(hash)
            });
            let unpacking = scope.spawn(move || {
                pass_on(MultiGzDecoder::new(Chunks::new(blob)), &decompressed, |_| {})
            });
            let mut hash = Sha256::new();
            plain.iter().for_each(|chunk: Vec<u8>| hash.update(chunk));
            unpacking.join().expect("unpacking does not panic")?;
            io::Result::Ok((reading.join().expect("reading does not panic")?, hash))
        });
        let (blob, plain) = digests?;
        let text = format!("{:02x?} {:02x?}\n", blob.finalize(), plain.finalize());
        io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Passes on what is read, and shows it on the way.
fn pass_on(
    mut input: impl Read,
    output: &SyncSender<Vec<u8>>,
    mut show: impl FnMut(&[u8]),
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; BUFFER];
        let count = input.read(&mut chunk)?;
        chunk.truncate(count);
        show(&chunk);
        if count == 0 || output.send(chunk).is_err() {
            return Ok(());
        }
    }
}

/// A stream out of chunks.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Chunks {
    fn new(chunks: Receiver<Vec<u8>>) -> Chunks {
        Chunks { chunks, current: io::Cursor::new(Vec::new()) }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.current.read(buffer)? {
            0 => match self.chunks.recv() {
                Ok(chunk) => {
                    self.current = io::Cursor::new(chunk);
                    self.current.read(buffer)
                }
                Err(_) => Ok(0),
            },
            count => Ok(count),
        }
    }
}
