//! Room on the disk: the segment that is prepared ahead, and the reserve.
//!
//! The next segment is prepared while the current one is in use, so a full disk shows a whole segment early: `space()`
//! says `Low`, the manager refuses new writes with a clear code, and what cannot be refused (votes, elections,
//! membership, removals) goes on in the rest of the current segment. Only when that is used up too does an append
//! return `NoSpace`; then the manager calls `use_reserve`, which gives the reserve file's blocks back to the file
//! system, and repeats the append. Once compaction or the administrator has made room, the reserve is laid down again.

use std::io;
use std::sync::Arc;

use crate::block::BLOCK;
use crate::disk::{Disk, DiskFile, is_no_space};
use crate::fill::Filler;
use crate::segment;

/// Name of the reserve file.
pub const RESERVE_FILE: &str = "reserve";

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Enough.
    Ok,
    /// The file system is nearly full: refuse new writes. The reserve is intact.
    Low,
    /// The reserve has been given up: only what keeps the cluster alive may be written.
    Reserve,
}

/// Whether `Wal::tend` has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tended {
    /// Nothing left.
    Idle,
    /// Call again when there is time.
    More,
}

enum Reserve {
    /// It is not there, and will be when there is room.
    Wanted,
    Filling(Filler),
    Ready,
    /// It was given up.
    Released,
}

/// A prepared segment.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) blocks: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// The files that are prepared ahead.
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    reserve_bytes: u64,
    low_water_bytes: u64,
    spare: Option<Spare>,
    filling: Option<Filler>,
    reserve: Reserve,
    /// The last attempt to prepare something met a full disk.
    starved: bool,
}

impl Room {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: &crate::Options, reserve: Option<u64>) -> Self {
        let ready = options.reserve_bytes == 0 || reserve == Some(options.reserve_bytes);
        Self {
            disk,
            segment_bytes: options.segment_bytes / BLOCK as u64 * BLOCK as u64,
            reserve_bytes: options.reserve_bytes,
            low_water_bytes: options.low_water_bytes,
            spare: None,
            filling: None,
            reserve: if ready { Reserve::Ready } else { Reserve::Wanted },
            starved: false,
        }
    }

    /// Returns the length of the segments that are prepared.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Takes over a segment that an earlier run prepared.
    pub(crate) fn adopt(&mut self, number: u64) -> io::Result<()> {
        let name = segment::file_name(number);
        let file = self.disk.open(&name)?;
        self.spare = Some(Spare { name, number, blocks: self.segment_bytes / BLOCK as u64, file });
        Ok(())
    }

    /// Says how much room there is.
    pub(crate) fn space(&self) -> Space {
        if matches!(self.reserve, Reserve::Released) {
            return Space::Reserve;
        }
        let free = self.disk.free_bytes().unwrap_or(0);
        if self.starved || free < self.low_water_bytes { Space::Low } else { Space::Ok }
    }

    /// Returns the next segment, preparing what is missing of it. `None`: the disk is full.
    pub(crate) fn take_segment(&mut self, number: u64) -> io::Result<Option<Spare>> {
        if self.spare.is_none() {
            self.prepare_segment(number, Filler::complete)?;
        }
        Ok(self.spare.take())
    }

    /// Prepares a first segment with its header, so that the file is never seen without one. `None`: the disk is full.
    pub(crate) fn create_first(
        &mut self,
        number: u64,
        header: &[u8],
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let name = segment::file_name(number);
        let result = Filler::new(&*self.disk, name, self.segment_bytes).and_then(|mut filler| {
            filler.complete()?;
            filler.write_header(header)?;
            filler.finish(&*self.disk)
        });
        no_space_is_none(result)
    }

    /// Does one step of what is to be prepared after the segment `current`.
    pub(crate) fn tend(&mut self, current: u64) -> io::Result<Tended> {
        if self.starved && !self.has_room_again() {
            return Ok(Tended::Idle);
        }
        if self.spare.is_none() {
            let going = self.prepare_segment(current + 1, |filler| filler.step().map(drop))?;
            return Ok(if going { Tended::More } else { Tended::Idle });
        }
        self.prepare_reserve()
    }

    /// Gives the reserve up. `false`: there is none to give.
    pub(crate) fn release_reserve(&mut self) -> io::Result<bool> {
        match std::mem::replace(&mut self.reserve, Reserve::Released) {
            Reserve::Filling(filler) => filler.discard(&*self.disk),
            Reserve::Ready if self.reserve_bytes > 0 => {
                self.disk.remove(RESERVE_FILE)?;
                self.disk.sync_dir()?;
            }
            Reserve::Ready | Reserve::Wanted | Reserve::Released => return Ok(false),
        }
        Ok(true)
    }

    fn has_room_again(&self) -> bool {
        let free = self.disk.free_bytes().unwrap_or(0);
        free >= self.low_water_bytes.max(self.segment_bytes)
    }

    /// Goes on with the next segment as `work` does. `false`: the disk is full.
    fn prepare_segment(
        &mut self,
        number: u64,
        work: impl Fn(&mut Filler) -> io::Result<()>,
    ) -> io::Result<bool> {
        match self.segment_step(number, work) {
            Ok(spare) => {
                self.spare = spare;
                self.starved = false;
                Ok(true)
            }
            Err(error) if is_no_space(&error) => {
                self.filling.take().into_iter().for_each(|filler| filler.discard(&*self.disk));
                self.starved = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn segment_step(
        &mut self,
        number: u64,
        work: impl Fn(&mut Filler) -> io::Result<()>,
    ) -> io::Result<Option<Spare>> {
        let name = segment::file_name(number);
        if self.filling.is_none() {
            self.filling = Some(Filler::new(&*self.disk, name.clone(), self.segment_bytes)?);
        }
        work(self.filling.as_mut().expect("set above"))?;
        match self.filling.take_if(|filler| filler.is_complete()) {
            None => Ok(None),
            Some(filler) => {
                let file = filler.finish(&*self.disk)?;
                Ok(Some(Spare { name, number, blocks: self.segment_bytes / BLOCK as u64, file }))
            }
        }
    }

    fn prepare_reserve(&mut self) -> io::Result<Tended> {
        match self.reserve_step() {
            Ok(tended) => Ok(tended),
            Err(error) if is_no_space(&error) => {
                if let Reserve::Filling(filler) = std::mem::replace(&mut self.reserve, Reserve::Wanted) {
                    filler.discard(&*self.disk);
                }
                self.starved = true;
                Ok(Tended::Idle)
            }
            Err(error) => Err(error),
        }
    }

    fn reserve_step(&mut self) -> io::Result<Tended> {
        match &mut self.reserve {
            Reserve::Ready => return Ok(Tended::Idle),
            Reserve::Released | Reserve::Wanted => {
                let wanted = self.reserve_bytes + self.low_water_bytes;
                if self.disk.free_bytes()? < wanted {
                    self.starved |= matches!(self.reserve, Reserve::Wanted);
                    return Ok(Tended::Idle);
                }
                let filler = Filler::new(&*self.disk, RESERVE_FILE.to_owned(), self.reserve_bytes)?;
                self.reserve = Reserve::Filling(filler);
                self.starved = false;
            }
            Reserve::Filling(filler) => {
                if filler.step()? {
                    if let Reserve::Filling(filler) = std::mem::replace(&mut self.reserve, Reserve::Ready) {
                        filler.finish(&*self.disk)?;
                    }
                    return Ok(Tended::Idle);
                }
            }
        }
        Ok(Tended::More)
    }
}

fn no_space_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_no_space(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
