//! Opening: read everything, refuse what is wrong, only then write.
//!
//! Before the log vouches for what it read, it makes sure that the disk holds it. A process that was killed between a
//! write and its sync leaves data in the page cache; and after a *failed* sync the kernel may keep data there, marked
//! clean, that never reached the disk. So the last batch and the segment's header are written again, synced, and only
//! then covered by the extent record.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use planted::Bug;

use crate::Options;
use crate::batch::{Recovered, TruncatedTail};
use crate::block::BLOCK;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::extent::{EXTENT_FILE, Extent, ExtentFile};
use crate::poison::Poison;
use crate::record::chain_start;
use crate::scan::{ActiveScan, Scan, SegmentInfo, scan};
use crate::segment::{DATA_BLOCK, MIN_SEGMENT, SegmentHeader, file_name};
use crate::space::Room;
use crate::wal::{Active, Lock, Wal};

impl Wal {
    /// Opens the log of a data directory, or creates it.
    ///
    /// # Errors
    /// See [`OpenError`]; until the directory has been read and found right, nothing is written to it.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        assert!(options.segment_bytes >= MIN_SEGMENT, "a segment has at least {MIN_SEGMENT} bytes");
        let lock = lock(&disk)?;
        let mut found = scan(&*disk)?;
        if found.active.is_none() && !options.create && !planted::is(Bug::LostLogAccepted) {
            return Err(OpenError::Missing);
        }
        let mut room = Room::new(disk.clone(), &options, found.reserve);
        let resumed = match found.active.take() {
            Some(active) => {
                let resumed =
                    resume(&*disk, &mut found, active).map_err(OpenError::io("repair", "the log"))?;
                tidy(&*disk, &mut found, &mut room).map_err(OpenError::io("tidy", "the data directory"))?;
                resumed
            }
            None => {
                tidy(&*disk, &mut found, &mut room).map_err(OpenError::io("tidy", "the data directory"))?;
                create(&*disk, &mut room, &mut found, options.log_id)?
            }
        };
        let Resumed { active, extents, unsaid, torn } = resumed;
        let recovered = Recovered {
            hard_state: found.state.hard_state.clone(),
            snapshot: found.state.snapshot.map(|mark| mark.meta),
            entries: found.entries,
            truncated_tail: torn,
        };
        let wal = Self {
            disk,
            poison: Poison::default(),
            log_id: found.log_id,
            segments: VecDeque::from(found.segments),
            active,
            room,
            state: found.state,
            seq: found.seq,
            chain: found.chain,
            extents,
            unsaid,
            sealed: true,
            deferred: false,
            snapshot_attempts: 0,
            stream: Vec::new(),
            blocks: Vec::new(),
            _lock: lock,
        };
        Ok((wal, recovered))
    }
}

pub(crate) fn lock(disk: &Arc<dyn Disk>) -> Result<Lock, OpenError> {
    match disk.try_lock() {
        Ok(true) => Ok(Lock(disk.clone())),
        Ok(false) => Err(OpenError::Locked),
        Err(source) => Err(OpenError::io("lock", "the data directory")(source)),
    }
}

/// Removes what crashes have left behind, and takes over a prepared segment. Only after `resume`: a former snapshot must
/// stay until the record of its successor, which may have been read from the page cache, is durable.
fn tidy(disk: &dyn Disk, found: &mut Scan, room: &mut Room) -> io::Result<()> {
    let spare = found.spare.take();
    if let Some((number, _)) = spare.filter(|(_, bytes)| *bytes != room.segment_bytes()) {
        found.junk.push(file_name(number));
    }
    for name in &found.junk {
        disk.remove(name)?;
    }
    // Names that a former process saw may not be durable yet, if it died before its own directory sync.
    disk.sync_dir()?;
    match spare {
        Some((number, bytes)) if bytes == room.segment_bytes() => room.adopt(number),
        _ => Ok(()),
    }
}

/// What a log goes on with.
struct Resumed {
    active: Active,
    extents: ExtentFile,
    unsaid: Option<Extent>,
    torn: Option<TruncatedTail>,
}

/// Makes durable what was read, cuts the torn tail off, and seals.
fn resume(disk: &dyn Disk, found: &mut Scan, scan: ActiveScan) -> io::Result<Resumed> {
    let header = &scan.header;
    let name = file_name(header.number);
    let file = disk.open(&name)?;
    if scan.torn.is_some() {
        wipe(&*file, scan.next_block, scan.torn_end)?;
    }
    file.write_at(0, &header.encode())?;
    if let Some((block, bytes)) = &scan.last_batch {
        file.write_at(block * BLOCK as u64, bytes)?;
    }
    file.sync()?;
    let mut extents = ExtentFile::open(disk, found.log_id, &found.sealed)?;
    let extent = Extent {
        segment: header.number,
        seq: found.seq,
        end_block: scan.next_block,
        last_index: found.state.last,
        chain: found.chain,
        continued: false,
    };
    if let Some(closing) = &found.unclosed {
        let file = disk.open(&file_name(closing.segment))?;
        closing.write_to_segment(&*file, found.log_id)?;
        file.sync()?;
    }
    extents.record(&extent)?;
    let unsaid = scan.last_batch.is_some().then_some(extent);
    let active =
        Active { file, name, number: header.number, blocks: header.blocks, next_block: scan.next_block };
    Ok(Resumed { active, extents, unsaid, torn: scan.torn })
}

/// Writes zeros over a torn batch: blocks that are not in use stay zero, which is what tells them from damage.
fn wipe(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    file.write_at(from * BLOCK as u64, &vec![0; (to - from) as usize * BLOCK])?;
    file.sync()
}

fn create(disk: &dyn Disk, room: &mut Room, found: &mut Scan, log_id: u64) -> Result<Resumed, OpenError> {
    let extents = ExtentFile::create(disk, log_id).map_err(OpenError::io("create", EXTENT_FILE))?;
    let number = 1;
    let header = SegmentHeader {
        log_id,
        number,
        blocks: room.segment_bytes() / BLOCK as u64,
        base_seq: 0,
        base_chain: chain_start(log_id),
    };
    let name = file_name(number);
    let file = room.create_first(number, &header.encode()).map_err(OpenError::io("create", &name))?;
    let file = file.ok_or(OpenError::NoSpace)?;
    found.log_id = log_id;
    found.chain = header.base_chain;
    found.segments = vec![SegmentInfo { number, max_index: 0 }];
    let active = Active { file, name, number, blocks: header.blocks, next_block: DATA_BLOCK };
    Ok(Resumed { active, extents, unsaid: None, torn: None })
}
