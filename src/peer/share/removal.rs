//! What is taken out of the share again. It is moved into `.enjambre/` first and looked at there: what somebody has put
//! in its place meanwhile is moved back.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, RenameFlags, fsync, renameat_with, statat, unlinkat},
    io::Errno,
};

use super::{
    open::{Stamp, is_file},
    stage::told,
    state::State,
};
use crate::{content::ContentId, name::SharePath, say};

/// A name in `.enjambre/tmp/` that no upload has: those are numbers.
const NAME: &str = "removed";

/// Removes the file at `path` if it is `content` and as it was when that was found out; whether it was.
pub(super) fn remove(state: &State, path: &SharePath, content: &ContentId) -> io::Result<bool> {
    let Some(record) = state.index(|index| index.get(path)).filter(|record| record.content == *content) else {
        return Ok(false);
    };
    let (tmp, name) = (state.private.tmp.as_fd(), path.file_name());
    let taken = state.root.parent(path).and_then(|folder| {
        renameat_with(&folder, name, tmp, NAME, RenameFlags::NOREPLACE)?;
        Ok(folder)
    });
    let folder = match taken {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        taken => taken.map_err(|error| told(format_args!("cannot remove {path}"), error))?,
    };
    state.look_again(path.clone());
    let is_it = statat(tmp, NAME, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| is_file(&stat) && Stamp::of(&stat) == record.stamp);
    if is_it {
        unlinkat(tmp, NAME, AtFlags::empty()).and_then(|()| fsync(&folder))?;
    } else if let Err(error) = renameat_with(tmp, NAME, &folder, name, RenameFlags::NOREPLACE) {
        say(format_args!(
            "somebody has put something to {path} that is in {}/tmp/{NAME} now: take it away, the next start removes \
             it ({error})",
            state.private.path.display()
        ));
    }
    Ok(is_it)
}
