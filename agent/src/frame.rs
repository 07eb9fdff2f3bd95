//! Frames between the agent and its mesh process: a length (u32, big-endian) and a MessagePack value with field names.

use std::io;

use anyhow::{Context, Result, bail};
use mesh::control::MAX_FRAME;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The next frame; `None` at the end of the stream.
///
/// # Errors
/// The stream breaks, or what it holds is no frame.
pub async fn read<T: DeserializeOwned>(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>> {
    let length = match reader.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > MAX_FRAME {
        bail!("a frame of {length} bytes; {MAX_FRAME} at most");
    }
    // Grows with what comes: a length alone costs nothing.
    let mut bytes = Vec::new();
    reader.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Ok(None);
    }
    rmp_serde::from_slice(&bytes).map(Some).context("a frame that is not understood")
}

/// Writes a frame.
///
/// # Errors
/// The stream breaks.
pub async fn write<T: Serialize>(writer: &mut (impl AsyncWrite + Unpin), frame: &T) -> Result<()> {
    let bytes = rmp_serde::to_vec_named(frame).context("a frame has no encoding")?;
    writer.write_u32(u32::try_from(bytes.len()).context("too long a frame")?).await?;
    writer.write_all(&bytes).await?;
    Ok(writer.flush().await?)
}
