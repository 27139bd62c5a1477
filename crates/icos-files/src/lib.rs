//! Opens, creates and replaces files safely in folders that other users of the
//! machine may write to.
//!
//! In such a folder, another user can put a symbolic link, a hard link or a named
//! pipe in the place of a file, at any moment. A program that follows it by path
//! changes the mode, the owner or the content of another file; as root, of any
//! file. Therefore:
//!
//! - [`SafeFolder`] and [`SafePath`] walk a path component by component and keep
//!   the descriptor of the folder. A symbolic link is followed only if no other
//!   user can have put it there.
//! - Files are opened below that descriptor with `O_NOFOLLOW` and without waiting
//!   (a named pipe is refused at once), and are checked on their own descriptor
//!   before they are used.
//! - Mode and owner are changed on the descriptor only; the owner only of a file
//!   that was just created.
//!
//! Trusted are the user that runs the program, and root. Neither the modes of a folder with
//! an access control list nor anything on a FUSE file system of another user proves that
//! others cannot write there. Links that the kernel
//! makes below `/proc` (`/dev/stdin` leads there) are followed by the kernel.

mod folder;
mod fuse;
mod open;
mod trust;
mod walk;

pub use folder::{SafeFolder, SafePath};
pub use open::{
    open_file, open_for_append, open_special, read_at_most, read_file, read_file_of_root,
    read_with_metadata,
};
pub use trust::{UnsafeFile, check_regular, is_changeable_by_others, is_own_file};
