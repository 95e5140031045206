//! A host's disk: an ext4 file system in an image, on a loop device. The image lies in memory (tmpfs), so that the bed wears
//! out no real disk, and so that the "device" can be made to have no more room behind the file system's back.
//!
//! A power cut is the ioctl `EXT4_IOC_SHUTDOWN` without a flush of the journal: from then on the file system writes nothing, and
//! what is read after mounting it anew is what was on the device. Pages that nobody synced are gone.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::bed::tool::{must, run};

/// The size of the image.
const IMAGE_BYTES: u64 = 384 << 20;
/// What the tmpfs around it may take: the image and the tables of the file system.
const ROOM: &str = "512m";
/// `ioctl(EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH)`: there is no program for it in every distribution.
const SHUTDOWN: &str = "open(my $f, '<', $ARGV[0]) or die $!; my $how = pack('L', 2); \
     ioctl($f, 0x8004587d, $how) or die $!";

/// A disk. It ends with the enclosure.
#[derive(Debug)]
pub struct Disk {
    /// The tmpfs that holds the image.
    holder: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    /// Makes and mounts a disk below `folder`.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn make(folder: &Path) -> Self {
        let disk = Self { holder: folder.join("device"), mount_point: folder.join("disk") };
        for path in [&disk.holder, &disk.mount_point] {
            fs::create_dir_all(path).expect("the bed's folder can be written to");
        }
        must("mount", &["-t", "tmpfs", "-o", &format!("size={ROOM}"), "bed", text(&disk.holder)]);
        let image = File::create(disk.image()).expect("the image can be made");
        image.set_len(IMAGE_BYTES).expect("the image can be made");
        must("mkfs.ext4", &["-q", "-F", text(&disk.image())]);
        disk.mount();
        disk
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Takes it away from the host, which must have no process on it.
    ///
    /// # Panics
    /// When it is in use.
    pub fn unmount(&self) {
        must("umount", &[text(&self.mount_point)]);
    }

    /// Gives it back to the host.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn mount(&self) {
        must("mount", &["-o", "loop", text(&self.image()), text(&self.mount_point)]);
    }

    /// The power of the disk is cut: nothing is written from now on. [`Self::unmount`] and [`Self::mount`] bring it back.
    ///
    /// # Errors
    /// What the system said.
    pub fn cut_power(&self) -> Result<(), String> {
        run("perl", &["-e", SHUTDOWN, text(&self.mount_point)]).map(|_| ())
    }

    /// From now on the device has no room for blocks that it does not have yet, although the file system counts on it: writing
    /// fails when the kernel writes back, long after the program wrote.
    ///
    /// # Errors
    /// What the system said.
    pub fn starve(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,size=4k", text(&self.holder)])
            .or_else(|_| {
                // A tmpfs cannot be made smaller than what it holds.
                let used = run("sh", &["-c", &format!("du -sk {} | cut -f1", text(&self.holder))])?;
                let size = format!("remount,size={}k", used.trim());
                run("mount", &["-o", &size, text(&self.holder)])
            })
            .map(|_| ())
    }

    /// Undoes [`Self::starve`].
    ///
    /// # Panics
    /// When the system refuses.
    pub fn feed(&self) {
        must("mount", &["-o", &format!("remount,size={ROOM}"), text(&self.holder)]);
    }

    /// Repairs the file system, which is not mounted.
    pub fn check(&self) {
        // It says by its exit code that it repaired something.
        let _ = run("e2fsck", &["-f", "-y", text(&self.image())]);
    }

    /// Fills it until nothing is left.
    ///
    /// # Errors
    /// What the system said.
    pub fn fill(&self) -> Result<(), String> {
        let balloon = self.balloon();
        let mut file = File::create(&balloon).map_err(|error| error.to_string())?;
        let mut size = 64 << 20;
        let mut length = 0;
        // Whole pieces as long as they fit, then smaller ones.
        while size >= 4096 {
            let fits = run(
                "fallocate",
                &["-o", &length.to_string(), "-l", &size.to_string(), text(&balloon)],
            );
            match fits {
                Ok(_) => length += size,
                Err(_) => size /= 4,
            }
        }
        file.flush().map_err(|error| error.to_string())
    }

    /// Undoes [`Self::fill`].
    pub fn empty(&self) {
        // It may not be there.
        let _ = fs::remove_file(self.balloon());
        // A power cut that comes next must not bring it back.
        let _ = File::open(&self.mount_point).and_then(|folder| folder.sync_all());
    }

    /// Everything on it is gone, as on a new disk.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn replace(&self) {
        self.unmount();
        must("mkfs.ext4", &["-q", "-F", text(&self.image())]);
        self.mount();
    }

    /// The loop device, as the block layer counts it: `7:3`.
    ///
    /// # Errors
    /// That it cannot be told.
    pub fn device(&self) -> Result<String, String> {
        run("mountpoint", &["-d", text(&self.mount_point)]).map(|number| number.trim().to_owned())
    }

    fn image(&self) -> PathBuf {
        self.holder.join("image")
    }

    fn balloon(&self) -> PathBuf {
        self.mount_point.join("balloon")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The enclosure's end does the same; this gives the memory back before.
        let _ = run("umount", &["-l", text(&self.mount_point)]);
        let _ = run("umount", &["-l", text(&self.holder)]);
    }
}

/// Turns bits of a file over.
///
/// # Errors
/// Those of the file.
pub fn rot(path: &Path, position: u64, mask: u8) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(position))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(position))?;
    file.write_all(&[byte[0] ^ mask])?;
    file.sync_all()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the bed's paths are text")
}
